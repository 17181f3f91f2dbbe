//! Data objects: made, read, replaced and destroyed, by whoever dares.
#![forbid(unsafe_code)]

use super::fence::{Made, Outlet};
use super::inside::Patience;
use super::report::{Line, Report};
use super::vendor::{Topic, Vendor};
use crate::pkcs11::{Error, Token};

const SUBJECT: &str = "data objects";

/// Why no fault of theirs is in the way of serving.
const UNUSED: &str = "that does no harm: the bridge keeps nothing in data objects";

/// As long as the record of a key with much to tell.
const LENGTH: usize = 1024;

/// Tries a private data object, and a public one where the token takes no private ones.
pub fn look(token: &Token, vendor: Option<&Vendor>, patience: Patience, outlet: Outlet<'_>, report: &mut Report<'_>) {
    if token.learnt().data_objects == Some(false) {
        return report.say(Line::warn(SUBJECT, "not tried: the configuration says that they do not work"));
    }
    let label = format!("bridge-check-{}", std::process::id());
    let made = Made::DataObject(label.clone());
    let bench = Bench { token, label: &label, patience, outlet };
    outlet.made(&made);
    let private = bench.make(true, &[1; LENGTH]);
    let kind = match private {
        Ok(()) => "private",
        Err(why) => match bench.make(false, &[1; LENGTH]) {
            Ok(()) => {
                report.say(Line::warn(SUBJECT, format!("no private ones: {why}")));
                "public"
            }
            Err(_) => {
                outlet.gone(&made);
                token.learn_data_objects(false);
                report.say(
                    Line::warn(SUBJECT, format!("not made: {why}"))
                        .hint(UNUSED)
                        .advice(vendor, Topic::DataObject)
                        .with("able", false),
                );
                return;
            }
        },
    };
    let used = bench.use_object(kind == "private");
    token.learn_data_objects(used.is_ok());
    let line = match used {
        Ok(how) => Line::ok(SUBJECT, format!("{kind} ones: made, read, {how}, destroyed")).with("able", true),
        Err(why) => Line::warn(SUBJECT, format!("{kind} ones: {why}"))
            .hint(UNUSED)
            .advice(vendor, Topic::DataObject)
            .with("able", false),
    };
    report.say(line);
}

struct Bench<'b> {
    token: &'b Token,
    label: &'b str,
    patience: Patience,
    outlet: Outlet<'b>,
}

impl Bench<'_> {
    fn make(&self, private: bool, value: &[u8]) -> Result<(), Error> {
        self.outlet.calling("C_CreateObject", self.patience.call());
        self.token.create_data_object(self.label, private, value)
    }

    fn read(&self) -> Result<Vec<Vec<u8>>, String> {
        self.outlet.calling("C_FindObjects or C_GetAttributeValue", self.patience.call());
        self.token.data_objects(self.label).map_err(|error| format!("not read: {error}"))
    }

    /// How its value is changed.
    fn use_object(&self, private: bool) -> Result<&'static str, String> {
        let (old, new) = (vec![1; LENGTH], vec![2; LENGTH]);
        if self.read()? != [old] {
            return Err("what is read is not what was written".to_owned());
        }
        self.outlet.calling("C_SetAttributeValue", self.patience.call());
        let changed = self.token.change_data_objects(self.label, &new);
        let how = match (changed, self.read()?) {
            (Ok(()), read) if read == [new.clone()] => "changed",
            // SoftHSM changes none: the new one is made, then the old one destroyed.
            _ => {
                self.make(private, &new).map_err(|error| format!("a second one is not made: {error}"))?;
                if !self.read()?.contains(&new) {
                    return Err("a second one with the same label is not found".to_owned());
                }
                "replaced by a new one"
            }
        };
        self.outlet.calling("C_DestroyObject", self.patience.call());
        self.token.destroy_data_objects(self.label).map_err(|error| format!("not destroyed: {error}"))?;
        if !self.read()?.is_empty() {
            return Err("still found after they were destroyed".to_owned());
        }
        self.outlet.gone(&Made::DataObject(self.label.to_owned()));
        Ok(how)
    }
}
