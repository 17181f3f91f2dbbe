//! The hash functions of signatures: KMIP's numbers, the token's mechanisms with each, and the hashing that is done here.
#![forbid(unsafe_code)]

use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::types::Ulong;
use ring::digest;

use super::mechanism::Input;
use crate::kmip::{Failure, HashingAlgorithm, Outcome};

/// The hash functions of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    /// For verifying what others signed, nothing else.
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// The hash of what is signed.
pub(super) enum Digest<'a> {
    /// By the client.
    Given(&'a [u8]),
    /// Here.
    Made(digest::Digest),
}

impl AsRef<[u8]> for Digest<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Given(digest) => digest,
            Self::Made(digest) => digest.as_ref(),
        }
    }
}

impl Hash {
    pub(super) fn named(algorithm: HashingAlgorithm) -> Outcome<Self> {
        match algorithm {
            HashingAlgorithm::SHA_1 => Ok(Self::Sha1),
            HashingAlgorithm::SHA_256 => Ok(Self::Sha256),
            HashingAlgorithm::SHA_384 => Ok(Self::Sha384),
            HashingAlgorithm::SHA_512 => Ok(Self::Sha512),
            other => Err(Failure::invalid_field(format!("Hashing Algorithm {other} is not served"))),
        }
    }

    /// The hash of the data, or the one that was given if it has the right length.
    pub(super) fn digest(self, input: Input<'_>) -> Outcome<Digest<'_>> {
        match input {
            Input::Data(data) => Ok(Digest::Made(digest::digest(self.ring(), data))),
            Input::Digest(digest) if digest.len() == self.len() => Ok(Digest::Given(digest)),
            Input::Digest(digest) => {
                let (len, own) = (digest.len(), self.len());
                Err(Failure::invalid_field(format!("Digested Data of {len} bytes where the hash has {own}")))
            }
        }
    }

    pub(super) fn ring(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    pub(super) fn len(self) -> usize {
        self.ring().output_len()
    }

    /// The DER of the object identifier (RFC 8017, appendix B.1).
    pub(super) fn oid(self) -> &'static [u8] {
        match self {
            Self::Sha1 => &[0x06, 5, 0x2b, 0x0e, 0x03, 0x02, 0x1a],
            Self::Sha256 => &[0x06, 9, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01],
            Self::Sha384 => &[0x06, 9, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02],
            Self::Sha512 => &[0x06, 9, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03],
        }
    }

    pub(super) fn plain(self) -> MechanismType {
        match self {
            Self::Sha1 => MechanismType::SHA1,
            Self::Sha256 => MechanismType::SHA256,
            Self::Sha384 => MechanismType::SHA384,
            Self::Sha512 => MechanismType::SHA512,
        }
    }

    pub(super) fn mgf(self) -> PkcsMgfType {
        match self {
            Self::Sha1 => PkcsMgfType::MGF1_SHA1,
            Self::Sha256 => PkcsMgfType::MGF1_SHA256,
            Self::Sha384 => PkcsMgfType::MGF1_SHA384,
            Self::Sha512 => PkcsMgfType::MGF1_SHA512,
        }
    }

    pub(super) fn rsa_pkcs(self) -> MechanismType {
        self.rsa_pkcs_mechanism().mechanism_type()
    }

    pub(super) fn rsa_pkcs_mechanism(self) -> Mechanism<'static> {
        match self {
            Self::Sha1 => Mechanism::Sha1RsaPkcs,
            Self::Sha256 => Mechanism::Sha256RsaPkcs,
            Self::Sha384 => Mechanism::Sha384RsaPkcs,
            Self::Sha512 => Mechanism::Sha512RsaPkcs,
        }
    }

    pub(super) fn rsa_pss(self) -> MechanismType {
        self.rsa_pss_mechanism(pss(self, self, self.len())).mechanism_type()
    }

    pub(super) fn rsa_pss_mechanism(self, parameters: PkcsPssParams) -> Mechanism<'static> {
        match self {
            Self::Sha1 => Mechanism::Sha1RsaPkcsPss(parameters),
            Self::Sha256 => Mechanism::Sha256RsaPkcsPss(parameters),
            Self::Sha384 => Mechanism::Sha384RsaPkcsPss(parameters),
            Self::Sha512 => Mechanism::Sha512RsaPkcsPss(parameters),
        }
    }

    pub(super) fn ecdsa(self) -> MechanismType {
        self.ecdsa_mechanism().mechanism_type()
    }

    pub(super) fn ecdsa_mechanism(self) -> Mechanism<'static> {
        match self {
            Self::Sha1 => Mechanism::EcdsaSha1,
            Self::Sha256 => Mechanism::EcdsaSha256,
            Self::Sha384 => Mechanism::EcdsaSha384,
            Self::Sha512 => Mechanism::EcdsaSha512,
        }
    }
}

/// The parameters of CKM_RSA_PKCS_PSS and its kin; `salt` in bytes.
pub(super) fn pss(hash: Hash, mask_hash: Hash, salt: usize) -> PkcsPssParams {
    let (hash_alg, mgf) = (hash.plain(), mask_hash.mgf());
    PkcsPssParams { hash_alg, mgf, s_len: Ulong::new(salt.try_into().unwrap_or_default()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_digest_of_the_wrong_length() {
        assert!(Hash::Sha256.digest(Input::Digest(&[0; 31])).is_err());
        assert!(Hash::Sha256.digest(Input::Digest(&[0; 32])).is_ok());
    }
}
