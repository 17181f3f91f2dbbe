//! What to do when something fails, for whoever made the module.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::vendors::VENDORS;

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Data objects.
    DataObject,
    /// Making a key.
    Generate,
    /// C_Initialize.
    Initialize,
    /// C_Login.
    Login,
    /// The library is not there.
    Missing,
    /// No token is there, or none that is initialised.
    NoToken,
    /// A place that the module needs.
    Rights,
    /// Sessions.
    Session,
}

/// A file or directory that a module reads at its start.
#[derive(Debug)]
pub struct Place {
    /// The variable of the environment that names it; empty if none does.
    pub(super) variable: &'static str,
    /// Where it is otherwise.
    pub(super) otherwise: &'static [&'static str],
    /// It is a directory in which the module makes files.
    pub is_filled: bool,
}

impl Place {
    /// Where it is here, and whether that was said: what was said has to be there.
    pub fn here(&self) -> Option<(PathBuf, bool)> {
        if let Some(named) = std::env::var_os(self.variable).filter(|named| !named.is_empty()) {
            return Some((named.into(), true));
        }
        let there = self.otherwise.iter().map(PathBuf::from).find(|path| path.symlink_metadata().is_ok());
        there.map(|path| (path, false))
    }
}

/// A maker of modules.
#[derive(Debug)]
pub struct Vendor {
    /// What operators call it.
    pub name: &'static str,
    /// What its library's file name, or what it says of itself, holds of this, in lower case.
    pub(super) marks: &'static [&'static str],
    /// What its module reads.
    pub places: &'static [Place],
    /// What it takes for things to work.
    pub(super) hints: &'static [(Topic, &'static str)],
}

impl Vendor {
    /// The one that says this of itself; what comes first counts most.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<&'static Self> {
        texts.into_iter().find_map(|text| {
            let text = text.to_ascii_lowercase();
            VENDORS.iter().find(|vendor| vendor.marks.iter().any(|mark| text.contains(mark)))
        })
    }

    /// What it takes for this to work.
    pub fn hint(&self, topic: Topic) -> Option<String> {
        let (_, hint) = self.hints.iter().find(|(about, _)| *about == topic)?;
        Some(format!("{}: {hint}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_vendors_by_library_and_by_what_they_say() {
        let name = |texts: &[&str]| Vendor::of(texts.iter().copied()).map(|vendor| vendor.name);
        for (texts, vendor) in [
            (&["libsofthsm2.so"][..], "SoftHSM"),
            (&["m.so", "IBM", "Meta PKCS11 LIBRARY"], "openCryptoki"),
            (&["m.so", "tpm2-software.github.io", "TPM2.0 Cryptoki"], "tpm2-pkcs11"),
            (&["yubihsm_pkcs11.so"], "YubiHSM 2"),
            (&["libnethsm_pkcs11.so"], "NetHSM"),
            (&["libCryptoki2_64.so"], "Luna"),
            (&["libcloudhsm_pkcs11.so"], "AWS CloudHSM"),
            (&["libcknfast.so"], "nShield"),
            (&["libkryoptic_pkcs11.so"], "Kryoptic"),
            (&["libcs_pkcs11_R3.so"], "Utimaco"),
            (&["libprimusP11.so"], "Securosys Primus"),
            (&["fortanix_pkcs11.so"], "Fortanix"),
            (&["libkmsp11.so"], "Google Cloud KMS"),
            (&["m.so", "Mozilla Foundation"], "NSS"),
            (&["m.so", "OpenSC Project"], "OpenSC"),
            (&["p11-kit-client.so", "PKCS#11 Kit"], "p11-kit"),
        ] {
            assert_eq!(name(texts), Some(vendor), "{texts:?}");
        }
        assert_eq!(name(&["m.so", "Example"]), None);
    }

    #[test]
    fn has_a_hint_for_whatever_keeps_a_module_from_being_served_and_none_twice() {
        for vendor in VENDORS {
            for topic in [Topic::Missing, Topic::Initialize, Topic::NoToken, Topic::Login] {
                // OpenSC starts whatever is there.
                let needs_none = vendor.name == "OpenSC" && topic == Topic::Initialize;
                assert!(needs_none || vendor.hint(topic).is_some(), "{} {topic:?}", vendor.name);
            }
        }
        for vendor in VENDORS {
            for (index, (topic, hint)) in vendor.hints.iter().enumerate() {
                assert!(vendor.hints[..index].iter().all(|(other, _)| other != topic), "{} {topic:?}", vendor.name);
                assert!(!hint.ends_with('.') && hint.len() < 140, "{hint}");
            }
        }
    }
}
