//! Until when a certificate, or a list of revoked ones, is meant to be used (RFC 5280, sections 4.1.2.5 and 5.1.2).
#![forbid(unsafe_code)]

use crate::der::{self, INTEGER, SEQUENCE};

/// The two ways in which X.509 writes a time.
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The version of TBSCertificate.
const VERSION: u8 = 0xa0;

const DAY: u64 = 24 * 60 * 60;

/// 9999-12-31 23:59:59, by which a certificate says that it has no end (RFC 5280, section 4.1.2.5).
const NEVER: u64 = 253_402_300_799;

/// The end of the certificate with this DER form, in seconds since 1970; 0 for one before that, `None` also for one without an end.
pub fn not_after(der: &[u8]) -> Option<u64> {
    let (tbs, _) = der::first(der::whole(der, SEQUENCE)?, SEQUENCE)?;
    // Serial number, signature algorithm, issuer.
    let (_, rest) = der::first(der::after(tbs, VERSION), INTEGER)?;
    let (_, rest) = der::first(rest, SEQUENCE)?;
    let (_, rest) = der::first(rest, SEQUENCE)?;
    let (validity, _) = der::first(rest, SEQUENCE)?;
    let (_, _, rest) = der::element(validity)?;
    time(rest).filter(|end| *end != NEVER)
}

/// When the list with this DER form is to be replaced at the latest; `None` also where it does not say so.
pub fn next_update(der: &[u8]) -> Option<u64> {
    let (tbs, _) = der::first(der::whole(der, SEQUENCE)?, SEQUENCE)?;
    // Signature algorithm, issuer, and when it was made.
    let (_, rest) = der::first(der::after(tbs, INTEGER), SEQUENCE)?;
    let (_, rest) = der::first(rest, SEQUENCE)?;
    let (_, _, rest) = der::element(rest)?;
    time(rest)
}

/// The time that is the first element of `bytes`.
fn time(bytes: &[u8]) -> Option<u64> {
    let (tag, text, _) = der::element(bytes)?;
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let (year, rest) = match tag {
        UTC_TIME => digits.split_at_checked(2),
        GENERALIZED_TIME => digits.split_at_checked(4),
        _ => None,
    }?;
    let year = match (tag, number(year)?) {
        // Section 4.1.2.5.1.
        (UTC_TIME, year) if year < 50 => year.saturating_add(2000),
        (UTC_TIME, year) => year.saturating_add(1900),
        (_, year) => year,
    };
    let mut parts = rest.chunks(2).map(number);
    let mut part = || parts.next().flatten();
    let (month, day, hour, minute, second) = (part()?, part()?, part()?, part()?, part()?);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)?.checked_add(second)?;
    Some(days_before(year, month, day).map_or(0, |days| days.saturating_mul(DAY).saturating_add(seconds)))
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Days from 1970 to this one of the Gregorian calendar; `None` for one before.
fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    // Years that begin with March have their odd day at the end.
    let (year, month) =
        if month > 2 { (year, month.checked_sub(3)?) } else { (year.checked_sub(1)?, month.checked_add(9)?) };
    let days = year.checked_mul(365)?.checked_add(year / 4)?.checked_sub(year / 100)?.checked_add(year / 400)?;
    let in_year = month.checked_mul(153)?.checked_add(2)? / 5;
    // Of the first of March in the year 0.
    const BEFORE_1970: u64 = 719_468;
    days.checked_add(in_year)?.checked_add(day)?.checked_sub(1)?.checked_sub(BEFORE_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tag: u8, text: &str) -> Option<u64> {
        let mut bytes = vec![tag, u8::try_from(text.len()).unwrap()];
        bytes.extend(text.as_bytes());
        time(&bytes)
    }

    #[test]
    fn reads_both_ways_of_writing_a_time() {
        assert_eq!(read(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(read(UTC_TIME, "000229000001Z"), Some(951_782_401));
        assert_eq!(read(UTC_TIME, "251231235959Z"), Some(1_767_225_599));
        assert_eq!(read(GENERALIZED_TIME, "21000301000000Z"), Some(4_107_542_400));
        assert_eq!(read(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        assert_eq!(read(UTC_TIME, "500101000000Z"), Some(0), "1950");
    }

    #[test]
    fn refuses_what_is_no_time_of_a_certificate() {
        for text in ["7001010000Z", "700101000000", "700101000000+0100", "70010100000.Z", "701301000000Z", ""] {
            assert_eq!(read(UTC_TIME, text), None, "{text}");
        }
        assert_eq!(read(GENERALIZED_TIME, "700101000000Z"), None);
        assert_eq!(read(der::UTF8_STRING, "700101000000Z"), None);
    }

    #[test]
    fn finds_the_end_of_certificates_and_lists() {
        use rcgen::{CertificateParams, CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, SerialNumber};
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2031, 7, 9);
        assert_eq!(not_after(params.self_signed(&key).unwrap().der()), Some(1_941_321_600));
        params.not_after = rcgen::date_time_ymd(9999, 12, 31) + std::time::Duration::from_secs(DAY - 1);
        assert_eq!(not_after(params.self_signed(&key).unwrap().der()), None);
        params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2071, 1, 2),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&Issuer::new(params, key)).unwrap();
        assert_eq!(next_update(list.der()), Some(3_187_382_400));
        for len in 0..list.der().len() {
            assert_eq!(next_update(&list.der()[..len]), None);
        }
    }
}
