//! The way down the templates: which refusal leads to which next try, and what is learnt from it.
#![forbid(unsafe_code)]

use cryptoki::error::RvError;

use super::error::Error;
use super::template::{LADDER, Rung};

/// What a token has taught: the rung and the form of CKA_EC_PARAMS that it took. The default is to begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lesson {
    pub(super) rung: Rung,
    /// Index of the form.
    pub(super) form: usize,
    /// False while it may as well have been trouble that passed that made the fuller template fail.
    pub(super) sure: bool,
}

/// Goes down the ladder to the first template the token takes: `generate` is called with a rung and one of `forms`. After a
/// refusal that may have been trouble, `left_nothing` tells whether the token is as it was.
///
/// # Errors
/// The first refusal: later ones are answers to poorer questions.
pub(super) fn descend<T>(
    lesson: Lesson,
    forms: usize,
    mut generate: impl FnMut(Rung, usize) -> Result<T, Error>,
    left_nothing: impl Fn() -> bool,
) -> Result<(T, Lesson), Error> {
    let start = if lesson.sure { lesson.rung } else { Rung::Full };
    let mut first = None;
    let mut sure = true;
    for rung in LADDER.into_iter().filter(|rung| *rung >= start) {
        let mut less_may_do = false;
        // The form that was understood before comes first.
        for form in [lesson.form].into_iter().chain((0..forms).filter(|form| *form != lesson.form)) {
            let error = match generate(rung, form) {
                Ok(made) => return Ok((made, Lesson { rung, form, sure: sure || rung == lesson.rung })),
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
                    !lesson.sure && left_nothing()
                }
                Refused::ForGood => false,
            };
            let refusal = first.get_or_insert(error);
            if !go_on {
                return Err(refusal.clone());
            }
        }
        if !less_may_do {
            break;
        }
    }
    Err(first.unwrap_or(Error::Unsupported("generating a key pair of this type")))
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

    fn error(rv: RvError) -> Error {
        Error::Call { function: "C_GenerateKeyPair", rv }
    }

    /// A token that answers each try with the next of `answers`, then takes it; and the tries it saw.
    fn run(
        lesson: Lesson,
        forms: usize,
        answers: &[RvError],
        left_nothing: bool,
    ) -> (Result<Lesson, Error>, Vec<(Rung, usize)>) {
        let mut tries = Vec::new();
        let mut answers = answers.iter();
        let generate = |rung, form| {
            tries.push((rung, form));
            answers.next().map_or(Ok(()), |rv| Err(error(*rv)))
        };
        let made = descend(lesson, forms, generate, || left_nothing).map(|((), lesson)| lesson);
        (made, tries)
    }

    #[test]
    fn takes_the_first_template_that_is_taken() {
        let (made, tries) = run(Lesson::default(), 1, &[], true);
        assert_eq!(made, Ok(Lesson { rung: Rung::Full, form: 0, sure: true }));
        assert_eq!(tries, [(Rung::Full, 0)]);
        let (made, tries) =
            run(Lesson::default(), 1, &[RvError::TemplateInconsistent, RvError::AttributeTypeInvalid], true);
        assert_eq!(made, Ok(Lesson { rung: Rung::Unlabelled, form: 0, sure: true }));
        assert_eq!(tries, [(Rung::Full, 0), (Rung::Granted, 0), (Rung::Unlabelled, 0)]);
    }

    #[test]
    fn begins_next_time_with_what_it_learnt() {
        let lesson = Lesson { rung: Rung::Granted, form: 1, sure: true };
        assert_eq!(run(lesson, 2, &[], true), (Ok(lesson), vec![(Rung::Granted, 1)]));
    }

    #[test]
    fn is_sure_of_a_vague_refusal_only_when_it_comes_twice() {
        let (made, _) = run(Lesson::default(), 1, &[RvError::GeneralError], true);
        let unsure = Lesson { rung: Rung::Granted, form: 0, sure: false };
        assert_eq!(made, Ok(unsure));
        // It was trouble: the fuller template is taken after all.
        assert_eq!(run(unsure, 1, &[], true).0, Ok(Lesson { rung: Rung::Full, form: 0, sure: true }));
        // It was the template.
        assert_eq!(run(unsure, 1, &[RvError::GeneralError], true).0, Ok(Lesson { sure: true, ..unsure }));
    }

    #[test]
    fn does_not_repeat_when_it_may_have_been_trouble_on_a_token_it_knows() {
        for rv in [RvError::GeneralError, RvError::DeviceError, RvError::FunctionFailed] {
            let known = Lesson { rung: Rung::Full, form: 0, sure: true };
            let (made, tries) = run(known, 1, &[rv], true);
            assert_eq!((made, tries.len()), (Err(error(rv)), 1));
        }
    }

    #[test]
    fn does_not_repeat_when_a_failed_try_left_an_object() {
        let (made, tries) = run(Lesson::default(), 1, &[RvError::GeneralError], false);
        assert_eq!((made, tries.len()), (Err(error(RvError::GeneralError)), 1));
    }

    #[test]
    fn tries_both_names_of_a_curve_and_no_poorer_template_for_it() {
        let (made, tries) = run(Lesson::default(), 2, &[RvError::CurveNotSupported], true);
        assert_eq!(made, Ok(Lesson { rung: Rung::Full, form: 1, sure: true }));
        assert_eq!(tries, [(Rung::Full, 0), (Rung::Full, 1)]);
        let (made, tries) =
            run(Lesson::default(), 2, &[RvError::CurveNotSupported, RvError::DomainParamsInvalid], true);
        assert_eq!((made, tries.len()), (Err(error(RvError::CurveNotSupported)), 2));
    }

    #[test]
    fn reports_the_first_refusal_and_ends() {
        let (made, tries) = run(Lesson::default(), 2, &[RvError::AttributeReadOnly; 99], true);
        assert_eq!((made, tries.len()), (Err(error(RvError::AttributeReadOnly)), 2 * LADDER.len()));
        let (made, tries) = run(Lesson::default(), 1, &[RvError::TemplateInconsistent, RvError::DeviceMemory], true);
        assert_eq!((made, tries.len()), (Err(error(RvError::TemplateInconsistent)), 2));
        let (made, tries) = run(Lesson::default(), 2, &[RvError::MechanismInvalid], true);
        assert_eq!((made, tries.len()), (Err(error(RvError::MechanismInvalid)), 1));
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
