//! What a key is for in a zone. PKCS#11 has no place for it, so it is what a DNSKEY record says, or a name that can be held against the key.
#![forbid(unsafe_code)]

use super::dnskey::{self, Dnskey};
use crate::pkcs11::PublicKey;

/// What a key is for in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// `ksk`, `zsk` or `csk`.
    pub word: &'static str,
    /// The flags of its DNSKEY record.
    pub flags: u16,
    /// The algorithm of its DNSKEY record.
    pub algorithm: u8,
    /// The key tag of its DNSKEY record.
    pub key_tag: u16,
    /// The zone; from a name it may be cut short, as names are.
    pub zone: String,
    /// What says so.
    pub source: Source,
}

/// What says what a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A DNSKEY record in a file.
    File,
    /// The key's name, whose key tag is the key's own.
    Label,
}

/// The flags of a zone key, without and with the bit for secure entry points. RFC 4034, section 2.1.1
const FLAGS: [(&str, u16); 3] = [("ksk", 257), ("zsk", 256), ("csk", 257)];

impl Role {
    /// What a record says. A key for secure entry that is its zone's only kind of key signs everything.
    pub(super) fn of_record(record: &Dnskey, zone_has_zsk: bool, source: Source) -> Self {
        let word = match (record.is_entry_point(), zone_has_zsk) {
            (false, _) => "zsk",
            (true, true) => "ksk",
            (true, false) => "csk",
        };
        let Dnskey { owner, flags, algorithm, key_tag } = record.clone();
        Self { word, flags, algorithm, key_tag, zone: owner, source }
    }

    /// What a name of the form `<zone>-<key tag>-<ksk|zsk|csk>-<pub|pri>` says, as dnst gives it, if the key tag is that of the key.
    pub(super) fn of_label(label: &str, key: &PublicKey) -> Option<Self> {
        let rest = label.strip_suffix("-pub").or_else(|| label.strip_suffix("-pri"))?;
        let (rest, role) = rest.rsplit_once('-')?;
        let (zone, tag) = rest.rsplit_once('-')?;
        let (word, flags) = FLAGS.iter().find(|(word, _)| *word == role)?;
        let tag: u16 = tag.parse().ok()?;
        let encoded = dnskey::encoded(key);
        let algorithm = Dnskey::algorithms_of(key.kind())
            .into_iter()
            .find(|algorithm| dnskey::key_tag(*flags, *algorithm, &encoded) == tag)?;
        Some(Self { word, flags: *flags, algorithm, key_tag: tag, zone: zone.to_owned(), source: Source::Label })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkcs11::Curve;

    // RFC 5702, section 6.1, and RFC 8080, section 6.1: their key tags are computed there.
    const RSA: &str = "example.net. DNSKEY 256 3 8 AwEAAcFcGsaxxdgiuuGmCkVImy4h99CqT7jwY3pexPGcnUFtR2Fh36BponcwtkZ4cAgtvd4Qs8PkxUdp6p/DlUmObdk=";
    const ED25519: &str = "example.com. DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=";

    #[test]
    fn believes_a_name_whose_key_tag_is_that_of_the_key() {
        let (rsa, _) = dnskey::parse(RSA).unwrap().remove(0);
        let role = Role::of_label("prod-example-net-9033-zsk-pub", &rsa).unwrap();
        assert_eq!((role.word, role.flags, role.algorithm, role.key_tag), ("zsk", 256, 8, 9033));
        assert_eq!((role.zone.as_str(), role.source), ("prod-example-net", Source::Label));
        let (edwards, _) = dnskey::parse(ED25519).unwrap().remove(0);
        assert_eq!(Role::of_label("example.com-3613-csk-pri", &edwards).map(|role| role.word), Some("csk"));
        for label in [
            "example.net-9034-zsk-pub",
            "example.net-9033-ksk-pub",
            "example.net-9033-zsk",
            "example.net-9033-dsk-pub",
            "9033-zsk-pub",
            "",
            "-pub",
        ] {
            assert_eq!(Role::of_label(label, &rsa), None, "{label}");
        }
    }

    #[test]
    fn takes_the_only_kind_of_key_that_a_zone_has_for_one_that_signs_all() {
        let (_, record) = dnskey::parse(ED25519).unwrap().remove(0);
        assert_eq!(Role::of_record(&record, false, Source::File).word, "csk");
        assert_eq!(Role::of_record(&record, true, Source::File).word, "ksk");
        let (key, record) = dnskey::parse(RSA).unwrap().remove(0);
        assert_eq!(Role::of_record(&record, true, Source::File).word, "zsk");
        assert_eq!(Dnskey::algorithms_of(key.kind()), [8, 10]);
        let p521 = PublicKey::Ec { curve: Curve::P521, point: vec![4; 133] };
        assert_eq!(Dnskey::algorithms_of(p521.kind()), Vec::<u8>::new());
    }
}
