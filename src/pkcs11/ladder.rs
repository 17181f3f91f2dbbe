//! The way down the templates: which refusal leads to which next try, and what is learnt from it.
#![forbid(unsafe_code)]

use cryptoki::error::RvError;

use super::error::Error;
use super::fault::Fault;
use super::policy::EcParams;
use super::template::Rung;

/// The shape of a template that a token took. The default is to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How much it says.
    pub rung: Rung,
    /// How it names an Edwards curve.
    pub form: EcParams,
    /// False while it may as well have been trouble that passed that made the fuller template fail.
    pub sure: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { rung: Rung::Full, form: EcParams::Oid, sure: false }
    }
}

/// Goes down the ladder to the first template the token takes: `generate` is called with one of `rungs` and one of `forms`.
/// After a refusal that may have been trouble, `left_nothing` tells whether the token is as it was.
///
/// # Errors
/// The first refusal: later ones are answers to poorer questions. Trouble that ended the way down is told itself.
pub(super) fn descend<T>(
    known: Shape,
    rungs: &[Rung],
    forms: &[EcParams],
    mut generate: impl FnMut(Rung, EcParams) -> Result<T, Error>,
    left_nothing: impl Fn() -> bool,
) -> Result<(T, Shape), Error> {
    let start = if known.sure { known.rung } else { Rung::Full };
    // A rung that is not among them any more would leave none.
    let start = start.min(rungs.last().copied().unwrap_or_default());
    let mut first = None;
    let mut sure = true;
    for rung in rungs.iter().copied().filter(|rung| *rung >= start) {
        let mut less_may_do = false;
        // The form that was understood before comes first.
        let (before, others): (Vec<EcParams>, Vec<EcParams>) = forms.iter().partition(|form| **form == known.form);
        for form in before.into_iter().chain(others) {
            let error = match generate(rung, form) {
                Ok(made) => return Ok((made, Shape { rung, form, sure: sure || rung == known.rung })),
                Err(error) => error,
            };
            let go_on = match judge(&error) {
                Refused::Curve => true,
                Refused::Template => {
                    less_may_do = true;
                    true
                }
                Refused::Perhaps => {
                    less_may_do = true;
                    sure = false;
                    // A token known to take this template means what it says.
                    !known.sure && left_nothing()
                }
                Refused::ForGood => false,
            };
            if !go_on {
                return Err(told(first, error));
            }
            first.get_or_insert(error);
        }
        if !less_may_do {
            break;
        }
    }
    Err(first.unwrap_or(Error::Unsupported("generating a key pair of this type")))
}

/// What to tell of two failures: the first, to the better question, unless the last is trouble that has to be repaired, or may have left
/// something.
pub(super) fn told(first: Option<Error>, last: Error) -> Error {
    first.filter(|_| last.fault() < Fault::Session).unwrap_or(last)
}

/// What a refused C_GenerateKeyPair means for the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// The curve was not understood; its other name may be.
    Curve,
    /// Something was said that the token does not want to hear.
    Template,
    /// It may be the template: some tokens have no better word for it. It may also be a token in trouble.
    Perhaps,
    /// Saying less does not help.
    ForGood,
}

/// Whether something that the template says may be what the token refused.
pub(super) fn is_of_the_template(error: &Error) -> bool {
    matches!(judge(error), Refused::Template | Refused::Perhaps)
}

/// Whether it may as well be trouble that passes.
pub(super) fn may_be_trouble(error: &Error) -> bool {
    judge(error) == Refused::Perhaps
}

fn judge(error: &Error) -> Refused {
    match error.rv() {
        Some(RvError::CurveNotSupported | RvError::DomainParamsInvalid) => Refused::Curve,
        Some(
            RvError::ArgumentsBad
            | RvError::AttributeReadOnly
            | RvError::AttributeTypeInvalid
            | RvError::AttributeValueInvalid
            | RvError::TemplateIncomplete
            | RvError::TemplateInconsistent,
        ) => Refused::Template,
        Some(RvError::DeviceError | RvError::FunctionFailed | RvError::GeneralError) => Refused::Perhaps,
        _ => Refused::ForGood,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkcs11::template::LADDER;

    const ONE: &[EcParams] = &[EcParams::Oid];
    const BOTH: &[EcParams] = &[EcParams::Oid, EcParams::Name];

    fn error(rv: RvError) -> Error {
        Error::Call { function: "C_GenerateKeyPair", rv }
    }

    /// A token that answers each try with the next of `answers`, then takes it; and the tries it saw.
    fn run(
        known: Shape,
        forms: &[EcParams],
        answers: &[RvError],
        left_nothing: bool,
    ) -> (Result<Shape, Error>, Vec<(Rung, EcParams)>) {
        let mut tries = Vec::new();
        let mut answers = answers.iter();
        let generate = |rung, form| {
            tries.push((rung, form));
            answers.next().map_or(Ok(()), |rv| Err(error(*rv)))
        };
        let made = descend(known, &LADDER, forms, generate, || left_nothing).map(|((), shape)| shape);
        (made, tries)
    }

    #[test]
    fn takes_the_first_template_that_is_taken() {
        let (made, tries) = run(Shape::default(), ONE, &[], true);
        assert_eq!(made, Ok(Shape { rung: Rung::Full, form: EcParams::Oid, sure: true }));
        assert_eq!(tries, [(Rung::Full, EcParams::Oid)]);
        let (made, tries) =
            run(Shape::default(), ONE, &[RvError::TemplateInconsistent, RvError::AttributeTypeInvalid], true);
        assert_eq!(made, Ok(Shape { rung: Rung::Shortened, form: EcParams::Oid, sure: true }));
        assert_eq!(tries.iter().map(|(rung, _)| *rung).collect::<Vec<_>>(), LADDER[..3]);
    }

    #[test]
    fn begins_next_time_with_what_it_learnt() {
        let known = Shape { rung: Rung::Granted, form: EcParams::Name, sure: true };
        assert_eq!(run(known, BOTH, &[], true), (Ok(known), vec![(Rung::Granted, EcParams::Name)]));
    }

    #[test]
    fn tries_no_rung_or_form_but_those_allowed() {
        let known = Shape { rung: Rung::Least, form: EcParams::Oid, sure: true };
        let mut tries = Vec::new();
        let generate = |rung, form| {
            tries.push((rung, form));
            Err::<(), _>(error(RvError::TemplateInconsistent))
        };
        assert!(descend(known, &[Rung::Granted], &[EcParams::Name], generate, || true).is_err());
        assert_eq!(tries, [(Rung::Granted, EcParams::Name)]);
    }

    #[test]
    fn is_sure_of_a_vague_refusal_only_when_it_comes_twice() {
        let (made, _) = run(Shape::default(), ONE, &[RvError::GeneralError], true);
        let unsure = Shape { rung: Rung::Granted, form: EcParams::Oid, sure: false };
        assert_eq!(made, Ok(unsure));
        // It was trouble: the fuller template is taken after all.
        assert_eq!(run(unsure, ONE, &[], true).0, Ok(Shape { rung: Rung::Full, form: EcParams::Oid, sure: true }));
        // It was the template.
        assert_eq!(run(unsure, ONE, &[RvError::GeneralError], true).0, Ok(Shape { sure: true, ..unsure }));
    }

    #[test]
    fn does_not_repeat_when_it_may_have_been_trouble_on_a_token_it_knows() {
        for rv in [RvError::GeneralError, RvError::DeviceError, RvError::FunctionFailed] {
            let known = Shape { rung: Rung::Full, form: EcParams::Oid, sure: true };
            let (made, tries) = run(known, ONE, &[rv], true);
            assert_eq!((made, tries.len()), (Err(error(rv)), 1));
        }
    }

    #[test]
    fn does_not_repeat_when_a_failed_try_left_an_object() {
        let (made, tries) = run(Shape::default(), ONE, &[RvError::GeneralError], false);
        assert_eq!((made, tries.len()), (Err(error(RvError::GeneralError)), 1));
    }

    #[test]
    fn tries_both_names_of_a_curve_and_no_poorer_template_for_it() {
        let (made, tries) = run(Shape::default(), BOTH, &[RvError::CurveNotSupported], true);
        assert_eq!(made, Ok(Shape { rung: Rung::Full, form: EcParams::Name, sure: true }));
        assert_eq!(tries, [(Rung::Full, EcParams::Oid), (Rung::Full, EcParams::Name)]);
        let (made, tries) =
            run(Shape::default(), BOTH, &[RvError::CurveNotSupported, RvError::DomainParamsInvalid], true);
        assert_eq!((made, tries.len()), (Err(error(RvError::CurveNotSupported)), 2));
    }

    #[test]
    fn reports_the_first_refusal_and_ends() {
        let (made, tries) = run(Shape::default(), BOTH, &[RvError::AttributeReadOnly; 99], true);
        assert_eq!((made, tries.len()), (Err(error(RvError::AttributeReadOnly)), 2 * LADDER.len()));
        let (made, tries) = run(Shape::default(), ONE, &[RvError::TemplateInconsistent, RvError::DeviceMemory], true);
        assert_eq!((made, tries.len()), (Err(error(RvError::TemplateInconsistent)), 2));
        let (made, tries) = run(Shape::default(), BOTH, &[RvError::MechanismInvalid], true);
        assert_eq!((made, tries.len()), (Err(error(RvError::MechanismInvalid)), 1));
    }

    #[test]
    fn reports_trouble_that_came_after_a_refusal() {
        for rv in [RvError::SessionHandleInvalid, RvError::UserNotLoggedIn, RvError::DeviceRemoved] {
            let (made, tries) = run(Shape::default(), ONE, &[RvError::TemplateInconsistent, rv], true);
            assert_eq!((made, tries.len()), (Err(error(rv)), 2));
        }
        let answers = [RvError::TemplateInconsistent, RvError::GeneralError];
        let (made, tries) = run(Shape::default(), ONE, &answers, false);
        assert_eq!((made, tries.len()), (Err(error(RvError::GeneralError)), 2), "an object is there");
    }

    #[test]
    fn only_what_may_be_the_template_leads_to_another() {
        let refused = |rv| judge(&Error::Call { function: "C_GenerateKeyPair", rv });
        assert_eq!(refused(RvError::TemplateInconsistent), Refused::Template);
        assert_eq!(refused(RvError::GeneralError), Refused::Perhaps);
        assert_eq!(refused(RvError::CurveNotSupported), Refused::Curve);
        for rv in [RvError::MechanismInvalid, RvError::KeySizeRange, RvError::DeviceMemory, RvError::UserNotLoggedIn] {
            assert_eq!(refused(rv), Refused::ForGood);
        }
        assert_eq!(judge(&Error::NoSession), Refused::ForGood);
    }
}
