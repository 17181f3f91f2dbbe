//! Keys made on the token, used, renamed and destroyed again, with the time of each step.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use cryptoki::error::RvError;
use ring::rand::{SecureRandom, SystemRandom};

use super::fence::{Half, Made, Outlet};
use super::inside::Patience;
use super::rate;
use super::report::{Line, Report};
use super::vendor::{Topic, Vendor};
use crate::bridge::{Signature, Standing, Trial};
use crate::json::Value;
use crate::pkcs11::{Class, Error, Filter, KeyPair, KeyPairSpec, Token, Usage};

/// What to do about keys that stay.
const LEFT: &str = "clients could not destroy theirs either; what is left is named below";

/// What to do where no key can be made.
const POLICY: &str = "clients could make none either: the token's policy, its memory or the user's role may be why";

/// What every label of these keys begins with.
const LABEL: &str = "bridge-check-";

/// What the sections share.
struct Bench<'b> {
    token: &'b Token,
    vendor: Option<&'static Vendor>,
    patience: Patience,
    outlet: Outlet<'b>,
    /// A rename has failed, as others would.
    keeps_labels: Cell<bool>,
}

/// Tries every kind of key that the token makes.
pub fn look(
    token: &Token,
    vendor: Option<&'static Vendor>,
    patience: Patience,
    outlet: Outlet<'_>,
    report: &mut Report<'_>,
) {
    if token.info().write_protected {
        return report.say(Line::warn("sign", "not tried: the token is write-protected"));
    }
    let bench = Bench { token, vendor, patience, outlet, keeps_labels: Cell::new(false) };
    bench.tell_of_others(report);
    let mut measured = false;
    for trial in Trial::all().into_iter().filter(|trial| trial.is_made_with(token.mechanisms())) {
        // The kind that signers use most.
        let measures = !measured && trial.name != "RSA-2048";
        measured |= bench.try_out(&trial, measures, report);
    }
    if !measured {
        if let Some(rsa) = Trial::all().into_iter().find(|trial| trial.is_made_with(token.mechanisms())) {
            bench.measure_alone(&rsa, report);
        }
    }
}

/// Destroys one half of a pair; that it is not there is as good.
///
/// # Errors
/// As [`Token::destroy`].
pub fn destroy(token: &Token, half: Half, id: &[u8]) -> Result<(), Error> {
    match token.destroy(half.class(), id) {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Destroys the pair with this label, if there is one.
///
/// # Errors
/// A failure of the module.
pub fn destroy_labelled(token: &Token, label: &str) -> Result<(), Error> {
    for half in [Half::Private, Half::Public] {
        let filter = Filter { class: Some(half.class()), label: Some(label), ..Filter::default() };
        for object in token.list(&filter)? {
            destroy(token, half, &object.id)?;
        }
    }
    Ok(())
}

impl Bench<'_> {
    /// Keys of a check that was cut short.
    fn tell_of_others(&self, report: &mut Report<'_>) {
        // Of many objects each is read.
        self.outlet.calling("C_FindObjects or C_GetAttributeValue", self.patience.generate());
        let Ok(listed) = self.token.list(&Filter::default()) else { return };
        let is_ours = |label: &Option<String>| label.as_ref().is_some_and(|label| label.starts_with(LABEL));
        for object in listed.into_iter().filter(|object| is_ours(&object.label)) {
            let text = format!("a {} of an earlier check is there, with the CKA_ID {}", object.class, hex(&object.id));
            report.say(Line::warn("left over", text).hint("it can be destroyed, unless another check runs"));
        }
    }

    /// Makes a pair, uses it, destroys it. Whether signatures were counted with it.
    fn try_out(&self, trial: &Trial, measures: bool, report: &mut Report<'_>) -> bool {
        let subject = format!("sign {}", trial.name);
        let mut steps = Steps::default();
        let pair = match self.make(trial, &mut steps) {
            Ok(pair) => pair,
            Err(error) => {
                report.say(self.not_made(trial, subject, &error));
                return false;
            }
        };
        let used = self.use_pair(trial, &pair, &mut steps);
        let counted = match &used {
            Ok(()) if measures => Some(rate::look(self.token, trial, &pair, self.patience, self.outlet)),
            _ => None,
        };
        let destroyed = self.destroy(&pair, &mut steps);
        report.say(match (&used, &destroyed) {
            (Err(unfit), destroyed) => {
                let remark =
                    |why: &String| Line::warn("left over", format!("{} not destroyed at once: {why}", trial.name));
                steps.remarks.extend(destroyed.as_ref().err().map(remark));
                unfit.line(subject, trial)
            }
            (Ok(()), Err(why)) => Line::fail(subject, format!("{}; not destroyed: {why}", steps.text()), LEFT),
            (Ok(()), Ok(())) => steps.line(subject),
        });
        steps.remarks.into_iter().for_each(|remark| report.say(remark));
        let has_counted = counted.is_some();
        counted.into_iter().for_each(|line| report.say(line));
        has_counted
    }

    /// Counts signatures with a pair made for that.
    fn measure_alone(&self, trial: &Trial, report: &mut Report<'_>) {
        let mut steps = Steps::default();
        let Ok(pair) = self.make(trial, &mut steps) else { return };
        let line = rate::look(self.token, trial, &pair, self.patience, self.outlet);
        report.say(line);
        if let Err(why) = self.destroy(&pair, &mut steps) {
            report.say(Line::fail("signatures", format!("the key made for them was not destroyed: {why}"), LEFT));
        }
    }

    fn make(&self, trial: &Trial, steps: &mut Steps) -> Result<KeyPair, Error> {
        let mut random = [0; 4];
        let label = format!("{LABEL}{}", hex(fill(&mut random)?));
        let usage = Usage { sign: true, verify: true, ..Usage::default() };
        let spec = KeyPairSpec { kind: trial.kind, public_label: Some(&label), private_label: Some(&label), usage };
        let expected = Made::Pair(label.clone());
        self.outlet.made(&expected);
        self.outlet.calling("C_GenerateKeyPair", self.patience.generate());
        let (made, took) = timed(|| self.token.generate_key_pair(&spec));
        // Of a pair that may be there, the HSM could not be asked.
        if !matches!(made, Err(Error::Unsettled { .. })) {
            if let Ok(pair) = &made {
                halves(pair).into_iter().for_each(|(half, id)| self.outlet.made(&Made::Key(half, id.to_vec())));
                steps.add("made", took);
                if took > self.patience.of_clients() {
                    steps.remarks.push(self.too_slow(trial, took));
                }
            }
            self.outlet.gone(&expected);
        }
        made
    }

    fn too_slow(&self, trial: &Trial, took: Duration) -> Line {
        let limit = self.patience.of_clients().as_secs();
        let text = format!("{} takes {} to make, which is more than {limit} s", trial.name, milliseconds(took));
        Line::warn("time", text)
            .hint("the bridge waits for pkcs11.generate-timeout; clients may give up earlier by themselves")
    }

    /// A refusal is a failure only where signers need such keys.
    fn not_made(&self, trial: &Trial, subject: String, error: &Error) -> Line {
        let text = format!("not made: {error}");
        let is_no_such_key = matches!(
            error.rv(),
            Some(
                RvError::CurveNotSupported
                    | RvError::DomainParamsInvalid
                    | RvError::KeySizeRange
                    | RvError::MechanismInvalid
                    | RvError::MechanismParamInvalid
            )
        );
        let line = if is_no_such_key || trial.standing < Standing::Common {
            Line::warn(subject, text).hint("the token lists the mechanism, but does not make such keys with it")
        } else {
            Line::fail(subject, text, POLICY).advice(self.vendor, Topic::Generate)
        };
        line.with("made", false)
    }

    fn use_pair(&self, trial: &Trial, pair: &KeyPair, steps: &mut Steps) -> Result<(), Unfit> {
        if pair.public.public.is_none() {
            return Err(Unfit::Refused("the public key cannot be read".to_owned()));
        }
        steps.say("public key read");
        let mut data = [0; 64];
        fill(&mut data).map_err(|error| Unfit::Refused(error.to_string()))?;
        for (way, how) in trial.how(self.token.mechanisms()).iter().enumerate() {
            if how.mechanism.is_none() {
                continue;
            }
            self.outlet.calling("C_Sign", self.patience.call());
            let (signature, took) = timed(|| trial.sign(self.token, &pair.private, way, &data));
            let signature = signature.map_err(|why| Unfit::Refused(format!("{}: {why}", how.scheme)))?;
            self.outlet.calling("C_Verify", self.patience.call());
            match trial.verify(self.token, &pair.public, way, &data, &signature) {
                Ok(Signature::Good) => steps.add_signature(how.scheme, took, Some("bridge"), "verified"),
                Ok(Signature::GoodSaysToken) => {
                    steps.add_signature(how.scheme, took, Some("token"), "verified by the token alone");
                }
                Ok(Signature::Bad) => return Err(Unfit::Wrong(format!("{}: the signature is wrong", how.scheme))),
                Err(why) => steps.add_signature(how.scheme, took, None, &format!("not verified: {why}")),
            }
        }
        self.rename(pair, steps);
        Ok(())
    }

    fn rename(&self, pair: &KeyPair, steps: &mut Steps) {
        if self.keeps_labels.get() {
            return steps.say("not renamed");
        }
        let label = format!("{LABEL}renamed");
        self.outlet.calling("C_SetAttributeValue", self.patience.call());
        let rename = || {
            self.token.rename(Class::PrivateKey, &pair.private.id, &label)?;
            match self.token.rename(Class::PublicKey, &pair.public.id, &label) {
                // The token keeps none.
                Err(Error::NotFound { .. }) => Ok(()),
                other => other,
            }
        };
        match timed(rename) {
            (Ok(()), took) => steps.add("renamed", took),
            (Err(error), _) => {
                self.keeps_labels.set(true);
                steps.say("not renamed");
                steps.remarks.push(
                    Line::warn("rename", error)
                        .hint("the names that clients give to keys of this token cannot be changed"),
                );
            }
        }
    }

    fn destroy(&self, pair: &KeyPair, steps: &mut Steps) -> Result<(), String> {
        self.outlet.calling("C_DestroyObject", self.patience.call());
        let (destroyed, took) = timed(|| {
            for (half, id) in halves(pair) {
                destroy(self.token, half, id).map_err(|error| error.to_string())?;
                self.outlet.gone(&Made::Key(half, id.to_vec()));
            }
            Ok::<(), String>(())
        });
        destroyed?;
        self.outlet.calling("C_FindObjects", self.patience.call());
        for (half, id) in halves(pair) {
            let filter = Filter { class: Some(half.class()), id: Some(id), ..Filter::default() };
            if self.token.list(&filter).is_ok_and(|listed| !listed.is_empty()) {
                self.outlet.made(&Made::Key(half, id.to_vec()));
                return Err(format!("the {} is still found, though the token says that it is destroyed", half.class()));
            }
        }
        steps.add("destroyed", took);
        Ok(())
    }
}

/// The private half first: on some tokens the other one goes with it.
fn halves(pair: &KeyPair) -> [(Half, &[u8]); 2] {
    [(Half::Private, &pair.private.id), (Half::Public, &pair.public.id)]
}

/// Why a pair that was made does not serve.
enum Unfit {
    /// The token does not do it.
    Refused(String),
    /// It does it wrongly.
    Wrong(String),
}

impl Unfit {
    fn line(&self, subject: String, trial: &Trial) -> Line {
        match self {
            // Nobody will miss it.
            Self::Refused(why) if trial.standing == Standing::Rare => Line::warn(subject, why),
            Self::Refused(why) => Line::fail(subject, why, "clients would be told so of every key of this kind"),
            Self::Wrong(why) => Line::fail(subject, why, "clients would publish it; the vendor has to mend that"),
        }
    }
}

/// What was done, and how long it took.
#[derive(Default)]
struct Steps {
    texts: Vec<String>,
    times: Vec<(&'static str, u64)>,
    signatures: Vec<Value>,
    remarks: Vec<Line>,
}

impl Steps {
    fn add(&mut self, what: &'static str, took: Duration) {
        self.texts.push(format!("{what} in {}", milliseconds(took)));
        self.times.push((what, microseconds(took)));
    }

    fn add_signature(&mut self, scheme: &'static str, took: Duration, verified_by: Option<&str>, verdict: &str) {
        self.texts.push(format!("{scheme} signed in {}, {verdict}", milliseconds(took)));
        self.signatures.push(Value::Object(vec![
            ("scheme", scheme.into()),
            ("microseconds", microseconds(took).into()),
            ("verified-by", verified_by.into()),
        ]));
    }

    fn say(&mut self, what: &str) {
        self.texts.push(what.to_owned());
    }

    fn text(&self) -> String {
        self.texts.join("; ")
    }

    fn line(&self, subject: String) -> Line {
        let times = self.times.iter().map(|(what, took)| (*what, (*took).into())).collect();
        Line::ok(subject, self.text())
            .with("microseconds", Value::Object(times))
            .with("signatures", Value::List(self.signatures.clone()))
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = work();
    (done, begun.elapsed())
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A time in milliseconds, to the tenth.
fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn fill(place: &mut [u8]) -> Result<&[u8], Error> {
    SystemRandom::new().fill(place).map_err(|_| Error::Unsupported("a key without the system's random numbers"))?;
    Ok(place)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
