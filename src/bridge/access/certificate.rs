//! What a client certificate says of its owner: subject, alternative names, fingerprint. TLS has verified it before; here it is only
//! read (RFC 5280, section 4.1).
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::net::IpAddr;

use ring::digest::{SHA256, digest};

use crate::der::{
    self, BOOLEAN, IA5_STRING, OBJECT_IDENTIFIER, OCTET_STRING, PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING,
};

/// The version and the extensions of TBSCertificate.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// id-ce-subjectAltName (RFC 5280, section 4.2.1.6).
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// The kinds of GeneralName that are compared, with the words that openssl has for them.
const NAMES: &[(u8, &str)] = &[(0x81, "email"), (0x82, "DNS"), (0x86, "URI")];

/// The attribute types that have a short name in RFC 4514, section 3, and two that certificates have beside them.
const TYPES: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
];

/// Alternative names that are looked at.
const MOST_NAMES: usize = 256;

/// The owner of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// SHA-256 of it.
    pub(crate) fingerprint: Vec<u8>,
    /// As RFC 4514 writes it, the last part first: `CN=signer,O=Example`. None if it holds what cannot be written so.
    pub(crate) subject: Option<String>,
    /// `DNS:signer.example`, `URI:urn:signer`, `email:signer@example.org` as openssl writes them, and `IP:192.0.2.1`.
    pub(crate) names: Vec<String>,
}

impl Certificate {
    /// Reads the DER form of a certificate. What is not understood of it is left out, and matches nothing.
    pub(crate) fn read(der: &[u8]) -> Self {
        let (subject, names) = owner(der);
        Self { fingerprint: digest(&SHA256, der).as_ref().to_vec(), subject, names }
    }
}

/// The alternative names of the certificate with this DER form.
pub fn alternative_names_of(der: &[u8]) -> Vec<String> {
    owner(der).1
}

/// Subject and alternative names, as far as the certificate can be read.
pub fn owner(der: &[u8]) -> (Option<String>, Vec<String>) {
    subject_and_extensions(der).map_or((None, Vec::new()), |(subject, extensions)| {
        (distinguished_name(subject), extensions.and_then(alternative_names).unwrap_or_default())
    })
}

/// Of a TBSCertificate (RFC 5280, section 4.1).
fn subject_and_extensions(der: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (tbs, _) = der::first(der::whole(der, SEQUENCE)?, SEQUENCE)?;
    // Serial number, signature algorithm, issuer, validity.
    let (_, _, rest) = der::element(der::after(tbs, VERSION))?;
    let (_, rest) = der::first(rest, SEQUENCE)?;
    let (_, rest) = der::first(rest, SEQUENCE)?;
    let (_, rest) = der::first(rest, SEQUENCE)?;
    let (subject, rest) = der::first(rest, SEQUENCE)?;
    let (_, mut rest) = der::first(rest, SEQUENCE)?;
    let mut extensions = None;
    while !rest.is_empty() {
        let (tag, content, after) = der::element(rest)?;
        if tag == EXTENSIONS {
            extensions = Some(content);
        }
        rest = after;
    }
    Some((subject, extensions))
}

/// RFC 4514, section 2.
fn distinguished_name(mut rest: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (mut set, after) = der::first(rest, SET)?;
        let mut part = String::new();
        while !set.is_empty() {
            let (attribute, others) = der::first(set, SEQUENCE)?;
            let (oid, value) = der::first(attribute, OBJECT_IDENTIFIER)?;
            let (UTF8_STRING | PRINTABLE_STRING | IA5_STRING, value, []) = der::element(value)? else { return None };
            let (_, name) = TYPES.iter().find(|(known, _)| *known == oid)?;
            if !part.is_empty() {
                part.push('+');
            }
            write!(part, "{name}={}", escaped(std::str::from_utf8(value).ok()?)).ok()?;
            set = others;
        }
        parts.push(part);
        rest = after;
    }
    parts.reverse();
    Some(parts.join(","))
}

/// RFC 4514, section 2.4.
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(value.len());
    for (place, c) in value.chars().enumerate() {
        let special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || (place == 0 && matches!(c, ' ' | '#'))
            || (place == last && c == ' ');
        match c {
            '\0' => escaped.push_str("\\00"),
            c if special => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut rest = der::whole(extensions, SEQUENCE)?;
    while !rest.is_empty() {
        let (extension, after) = der::first(rest, SEQUENCE)?;
        let (oid, value) = der::first(extension, OBJECT_IDENTIFIER)?;
        if oid == SUBJECT_ALT_NAME {
            let value = der::whole(der::after(value, BOOLEAN), OCTET_STRING)?;
            let mut names = der::whole(value, SEQUENCE)?;
            let mut found = Vec::new();
            while !names.is_empty() && found.len() < MOST_NAMES {
                let (tag, value, others) = der::element(names)?;
                if let Some(address) = address(tag, value) {
                    found.push(format!("IP:{address}"));
                }
                let kind = NAMES.iter().find(|(known, _)| *known == tag);
                // They are IA5Strings; a NUL or another control in one is there to deceive.
                let text = std::str::from_utf8(value).ok().filter(|text| text.chars().all(|c| c.is_ascii_graphic()));
                if let (Some((_, kind)), Some(text)) = (kind, text) {
                    found.push(format!("{kind}:{text}"));
                }
                names = others;
            }
            return Some(found);
        }
        rest = after;
    }
    Some(Vec::new())
}

/// The address in a name of the kind iPAddress.
fn address(tag: u8, value: &[u8]) -> Option<IpAddr> {
    const IP_ADDRESS: u8 = 0x87;
    let v4 = || <[u8; 4]>::try_from(value).map(IpAddr::from).ok();
    let v6 = || <[u8; 16]>::try_from(value).map(IpAddr::from).ok();
    (tag == IP_ADDRESS).then(|| v4().or_else(v6)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn certificate(adjust: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        adjust(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn reads_subject_and_alternative_names() {
        let der = certificate(|params| {
            params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
            params.distinguished_name.push(DnType::CommonName, "signer");
            params.subject_alt_names = vec![
                SanType::DnsName("signer.example".try_into().unwrap()),
                SanType::URI("urn:example:signer".try_into().unwrap()),
                SanType::Rfc822Name("signer@example.org".try_into().unwrap()),
                SanType::IpAddress([192, 0, 2, 1].into()),
            ];
        });
        let certificate = Certificate::read(&der);
        assert_eq!(certificate.subject.as_deref(), Some("CN=signer,O=Example\\, Inc."));
        let names = ["DNS:signer.example", "URI:urn:example:signer", "email:signer@example.org", "IP:192.0.2.1"];
        assert_eq!(certificate.names, names);
        assert_eq!(certificate.fingerprint, digest(&SHA256, &der).as_ref());
    }

    #[test]
    fn escapes_what_could_be_taken_for_another_part() {
        assert_eq!(escaped("a,O=b"), "a\\,O=b");
        assert_eq!(escaped(" #a "), "\\ #a\\ ");
        assert_eq!(escaped("a\0b"), "a\\00b");
        assert_eq!(escaped(""), "");
    }

    #[test]
    fn survives_every_cut_and_every_changed_byte() {
        let der = certificate(|params| {
            params.distinguished_name.push(DnType::CommonName, "signer");
            params.subject_alt_names = vec![SanType::DnsName("signer.example".try_into().unwrap())];
        });
        for len in 0..der.len() {
            Certificate::read(&der[..len]);
            for value in [0x00, 0x30, 0x7f, 0x80, 0x82, 0xff] {
                let mut changed = der.clone();
                changed[len] = value;
                Certificate::read(&changed);
            }
        }
    }
}
