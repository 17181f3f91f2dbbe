//! Making key pairs: down the ladder of templates, then read back, or removed again.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};

use cryptoki::error::RvError;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use ring::rand::{SecureRandom, SystemRandom};

use super::destroy::unsettled;
use super::error::Error;
use super::fault::Fault;
use super::key::{Class, Hex, KeyPair, KeyPairSpec};
use super::label::Limit;
use super::ladder::{descend, is_of_the_template, may_be_trouble, told};
use super::learnt::Labels;
use super::object;
use super::policy::IdLength;
use super::repair::LOST;
use super::template::{LADDER, Plan, Rung, Said, plan, templates};
use super::token::{Seat, Token};
use super::trouble::Trouble;
use super::watch;

/// Ids of fewer bytes are looked for before they are used: chance may well have given them away already.
const SURELY_NEW: usize = 8;

/// Short ids may be taken; so often another is tried.
const TRIES: usize = 16;

/// Lengths of ids for tokens that refuse the usual one: 16 bytes are still random enough, YubiHSM 2 has 2 of its own.
const SHORTER: [usize; 2] = [16, 2];

/// What a refusal may leave behind. YubiHSM 2's module makes a pair before it finds that it may not keep its CKA_ID and labels: then
/// the pair has others, and cannot be told from those of strangers.
const NAMELESS: &str = "a key pair that nobody can name may be left\nhint: where a YubiHSM 2 refuses it, id-length = 2 and label-max = 40 in [[token]] ask for no more than the device itself keeps";

/// What was there of a pair that failed.
enum Cleared {
    Nothing,
    Pair,
    /// What is there may be another's, or cannot be looked for.
    Unsure,
}

/// The halves of a pair as C_GenerateKeyPair gave them.
pub(super) struct Made {
    pub(super) public: ObjectHandle,
    pub(super) private: ObjectHandle,
    /// How many [deals](super::deals::Deals::so_far) there had been before: after another they may be others' handles.
    pub(super) dealt: u64,
}

impl Token {
    /// Makes a key pair and reads back what the token stored: the ids may differ from those given, and the labels
    /// too, which the log then says. Nothing stays on the token if it fails, or the log says what.
    ///
    /// # Errors
    /// [`Error::IdTaken`] if only short ids are taken, and those tried are in use; [`Error::NotTaken`] if what was made is not
    /// what was asked for, or a private key that is neither sensitive nor bound to the token; [`Error::Unsettled`] if the HSM
    /// failed meanwhile; what the module says to the fullest template.
    pub fn generate_key_pair(&self, spec: &KeyPairSpec<'_>) -> Result<KeyPair, Error> {
        let _stay = watch::stay();
        let _change = self.change()?;
        let (mut again, mut trouble) = (true, Trouble::default());
        loop {
            let (begun, repairs) = (Cell::new(false), Cell::new(0));
            // The CKA_ID tried last: all others are known to have left nothing.
            let tried = RefCell::new(None);
            let result = self.run_until(&begun, |seat| {
                repairs.set(seat.repairs);
                self.generate_on(seat, spec, &tried, &begun)
            });
            let why = match result {
                Err(error) if begun.get() => error,
                result => return result,
            };
            let fault = why.fault();
            let is_disturbed = why == Error::Disturbed;
            let was_lost = matches!(fault, Fault::Session | Fault::Login);
            if fault == Fault::Request && !is_disturbed {
                if why.rv() == Some(RvError::FunctionRejected) {
                    log::error!("token {}: {why}: {NAMELESS}", self.info().name());
                }
                return Err(why);
            }
            let id = tried.into_inner();
            let called = || match &id {
                Some(id) => format!("the CKA_ID {}", Hex(id)),
                None => "a CKA_ID that the token chose".to_owned(),
            };
            // A session may say that it is logged in where it is not: then nothing else makes the login anew, and private keys are not
            // seen.
            let is_mended = fault != Fault::Login || self.mend(why.clone(), repairs.get(), &mut trouble).is_ok();
            let cleared = self.clear(id.as_deref());
            let may_go_on = again && is_mended && !watch::is_overdue();
            match cleared {
                // The call never began; and now that it is known that nothing is there, this is no second pair.
                Ok(Cleared::Nothing) if may_go_on && was_lost => again = false,
                // Nor is it where what was there has been removed for certain: another has another id.
                Ok(Cleared::Pair) if may_go_on && (is_disturbed || was_lost) => {
                    log::info!(
                        "token {}: {why}: the key pair was removed again, and another is made",
                        self.info().name()
                    );
                    again = false;
                }
                Ok(Cleared::Nothing) if fault == Fault::Busy => return Err(why),
                Ok(Cleared::Nothing) => return Err(unsettled("the key pair was not made", why)),
                Ok(Cleared::Pair) => return Err(unsettled("the key pair was removed again", why)),
                Ok(Cleared::Unsure) => {
                    log::error!("token {}: {why}: a key pair with {} may be left", self.info().name(), called());
                    return Err(unsettled("whether the key pair was made is not known", why));
                }
                Err(error) => {
                    log::error!("token {}: a key pair with {} may be left: {error}", self.info().name(), called());
                    return Err(unsettled("whether the key pair was made is not known: the HSM did not answer", why));
                }
            }
        }
    }

    fn generate_on(
        &self,
        seat: &mut Seat,
        spec: &KeyPairSpec<'_>,
        tried: &RefCell<Option<Vec<u8>>>,
        begun: &Cell<bool>,
    ) -> Result<KeyPair, Error> {
        let plan = plan(spec.kind)?;
        let mut first = None;
        let mut is_sure = true;
        for length in self.id_lengths() {
            let id = match self.new_id(&seat.session, length) {
                Ok(id) => id,
                Err(error) => return Err(told(first, error)),
            };
            *tried.borrow_mut() = id.clone();
            watch::makes();
            let _making = self.changing.making.begin();
            let alone = self.alone();
            // Another token would make it, whose session this is by now.
            if seat.claim.is_lost() {
                return Err(LOST);
            }
            begun.set(true);
            let is_vague = Cell::new(false);
            match self.make(&seat.session, spec, &plan, id.as_deref(), &is_vague) {
                Ok(made) => {
                    self.learn(|learnt| {
                        let is_likely = learnt.likely_id_length.replace(length) == Some(length);
                        learnt.id_length = (is_sure || is_likely).then_some(length);
                    });
                    return self.settle(seat, spec, &made, id.as_deref());
                }
                Err(error) if is_of_the_template(&error) && self.left_nothing(&seat.session, id.as_deref()) => {
                    is_sure &= !is_vague.get();
                    first.get_or_insert(error);
                }
                Err(error) => return Err(told(first, error)),
            }
            drop(alone);
        }
        Err(first.unwrap_or(Error::IdTaken))
    }

    /// The lengths of ids to try, the best first.
    fn id_lengths(&self) -> Vec<IdLength> {
        if let Some(length) = self.learnt().id_length {
            return vec![length];
        }
        let shorter = SHORTER.into_iter().filter(|length| *length < self.id_length);
        let lengths = [self.id_length].into_iter().chain(shorter).map(IdLength::Bytes);
        lengths.chain([IdLength::Chosen]).collect()
    }

    /// An id that no object has; none where the token chooses.
    fn new_id(&self, session: &Session, length: IdLength) -> Result<Option<Vec<u8>>, Error> {
        let IdLength::Bytes(length) = length else { return Ok(None) };
        for _ in 0..TRIES {
            let id = random_id(length)?;
            if length >= SURELY_NEW || is_free(session, &id)? {
                return Ok(Some(id));
            }
        }
        Err(Error::IdTaken)
    }

    /// Looks whether a pair that failed is there, and removes it if its id is so long that nobody else's has it.
    fn clear(&self, id: Option<&[u8]>) -> Result<Cleared, Error> {
        let Some(id) = id else { return Ok(Cleared::Unsure) };
        let mut cleared = Cleared::Nothing;
        for class in [Class::PrivateKey, Class::PublicKey] {
            let removed = self.run(|seat| {
                let dealt = self.health.deals().so_far();
                match self.find_surely(seat, class, id) {
                    Ok(_) | Err(Error::Ambiguous { .. }) if id.len() < SURELY_NEW => {
                        cleared = Cleared::Unsure;
                        Ok(())
                    }
                    Ok(handle) => {
                        let _alone = self.alone();
                        // With a stale handle another object might be destroyed.
                        if self.may_be_stale(seat, dealt) {
                            return Err(Error::Disturbed);
                        }
                        cleared = Cleared::Pair;
                        Ok(seat.session.destroy_object(handle)?)
                    }
                    Err(Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
            });
            match removed {
                // Gone with the other half: had the handle gone with the login, that would be the error.
                Err(error) if error.is_stale_handle() => {}
                other => other?,
            }
        }
        self.forget(id);
        Ok(cleared)
    }

    /// Without a login private keys are not seen.
    pub(super) fn find_surely(&self, seat: &Seat, class: Class, id: &[u8]) -> Result<ObjectHandle, Error> {
        match object::find(&seat.session, class, id) {
            Err(Error::NotFound { .. }) if self.check_login(&seat.session)? => object::find(&seat.session, class, id),
            found => found,
        }
    }

    /// `is_vague` is set where a refusal may as well have been trouble.
    fn make(
        &self,
        session: &Session,
        spec: &KeyPairSpec<'_>,
        plan: &Plan,
        id: Option<&[u8]>,
        is_vague: &Cell<bool>,
    ) -> Result<Made, Error> {
        let name = self.info().name();
        let labels = |limit: Limit| {
            [spec.public_label, spec.private_label].map(|label| label.and_then(|label| limit.fit(label)))
        };
        let (usual, short) = (labels(self.label_limit()), labels(Limit::SHORT));
        let rungs: Vec<Rung> = match self.policy.template.of(plan.family) {
            Some(rung) => vec![rung],
            // Labels that are short already are no news.
            None => LADDER.into_iter().filter(|rung| *rung != Rung::Shortened || short != usual).collect(),
        };
        let before = *self.learnt().shapes.of(plan.family);
        let forms = plan.forms(self.policy.ec_params);
        let generate = |rung, form| {
            let labels = if rung == Rung::Shortened { &short } else { &usual };
            let said = Said { spec, id, labels: labels.clone(), params: plan.params(form) };
            let (public, private) = templates(said, rung, &self.policy.key_template);
            let made = session.generate_key_pair(&plan.mechanism, &public, &private).map_err(Error::from);
            if let Err(error) = &made {
                log::debug!("token {name}: template {rung:?}: {error}");
                is_vague.set(is_vague.get() || may_be_trouble(error));
            }
            made
        };
        let known = before.unwrap_or_default();
        let dealt = self.health.deals().so_far();
        let ((public, private), mut shape) =
            descend(known, &rungs, &forms, generate, || self.left_nothing(session, id))?;
        let is_labelled = usual.iter().any(Option::is_some);
        let labels = match shape.rung {
            Rung::Shortened if shape.sure => {
                // It is the labels that were too much; cut, they are as usual from now on.
                shape.rung = Rung::Granted;
                Some(Labels::Short)
            }
            Rung::Unlabelled if shape.sure && is_labelled => Some(Labels::Refused),
            _ => None,
        };
        if before != Some(shape) || labels.is_some() {
            self.learn(|learnt| {
                *learnt.shapes.of(plan.family) = Some(shape);
                learnt.labels = labels.or(learnt.labels);
            });
        }
        Ok(Made { public, private, dealt })
    }

    /// Whether a refusal that may have been trouble left the token as it was. If not, a second try would make the id
    /// ambiguous; and what is there is not destroyed either, since nothing proves whose it is.
    fn left_nothing(&self, session: &Session, id: Option<&[u8]>) -> bool {
        // What the token would have called it is not known.
        let Some(id) = id else { return true };
        let free = is_free(session, id);
        if free == Ok(false) {
            let name = self.info().name();
            log::error!("token {name}: C_GenerateKeyPair failed, but an object with the CKA_ID {} is there", Hex(id));
        }
        free == Ok(true)
    }
}

/// So many random bytes.
pub(super) fn random_id(length: usize) -> Result<Vec<u8>, Error> {
    let mut id = vec![0; length];
    SystemRandom::new()
        .fill(&mut id)
        .map_err(|_| Error::Unsupported("making keys without the system's random numbers"))?;
    Ok(id)
}

/// Whether neither half of a pair has this id.
fn is_free(session: &Session, id: &[u8]) -> Result<bool, Error> {
    for class in [Class::PublicKey, Class::PrivateKey] {
        match object::find(session, class, id) {
            Err(Error::NotFound { .. }) => {}
            Ok(_) | Err(Error::Ambiguous { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
