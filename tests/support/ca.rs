//! A CA of the test's own, its certificates, and lists of those that it has revoked.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// For what is not about the end: days until then.
pub const YEARS: i64 = 10_000;

/// Seconds in which a test is done.
const MARGIN: i64 = 600;

pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Ca {
    pub fn new() -> Ca {
        Ca::for_days(YEARS)
    }

    /// One that ends in so many days, or has ended.
    pub fn for_days(days: i64) -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + after_1970(days);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Ca { issuer: Issuer::new(params, key), pem }
    }

    pub fn certify(&self, name: &str, serial: u64) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        self.certify_for(name, serial, YEARS)
    }

    pub fn certify_for(&self, name: &str, serial: u64, days: i64) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + after_1970(days);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::DnsName(format!("{name}.example").try_into().unwrap())];
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    pub fn revoke(&self, serial: u64) -> String {
        self.revoke_for(serial, YEARS)
    }

    /// A list that is to be replaced in so many days, or was to be.
    pub fn revoke_for(&self, serial: u64, days: i64) -> String {
        let now = rcgen::date_time_ymd(2020, 1, 1);
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: rcgen::date_time_ymd(1970, 1, 1) + after_1970(days),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// So many days from now, as the time since 1970.
fn after_1970(days: i64) -> Duration {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_secs();
    let then = i64::try_from(now).expect("63 bits") + days * 24 * 60 * 60;
    let margin = if days < 0 { -MARGIN } else { MARGIN };
    Duration::from_secs(u64::try_from(then + margin).expect("after 1970"))
}
