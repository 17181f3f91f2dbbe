//! Cryptographic Parameters <-> CKM_*: which mechanism of the token makes the signature that is asked for, and what of it is done
//! here: hashing, DigestInfo, and the two forms of an ECDSA signature.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::ops::Deref;

use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::{Mechanism, MechanismType};

use super::der;
use super::hash::{Digest, Hash, pss};
use crate::kmip::{
    CryptographicAlgorithm, CryptographicParameters, DigitalSignatureAlgorithm, Failure, MaskGenerator, Outcome,
    PaddingMethod, ResultReason,
};
use crate::pkcs11::{Curve, KeyKind, Mechanisms, Use};

/// A signature scheme: what the parameters mean for a kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1(Hash),
    /// RSASSA-PSS.
    RsaPss {
        /// Of the data.
        hash: Hash,
        /// Inside MGF1.
        mask_hash: Hash,
        /// Bytes.
        salt: usize,
    },
    /// ECDSA.
    Ecdsa(Hash, Curve),
    /// EdDSA without context or prehash.
    Eddsa,
}

/// What is signed.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// The data, to be hashed.
    Data(&'a [u8]),
    /// Its hash (KMIP 1.4, Digested Data).
    Digest(&'a [u8]),
}

/// A call to the token: the mechanism and what it is given.
pub(super) struct Call<'a> {
    pub(super) mechanism: Mechanism<'static>,
    pub(super) data: Data<'a>,
}

/// What a mechanism is given.
pub(super) enum Data<'a> {
    /// So many bytes of it, where it has more.
    Digest(Digest<'a>, usize),
    Made(Vec<u8>),
    Whole(&'a [u8]),
}

impl Data<'_> {
    /// Whether it is something else than what the client sent.
    pub(super) fn is_made_here(&self) -> bool {
        !matches!(self, Self::Whole(_))
    }
}

impl Deref for Data<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Digest(digest, len) => digest.as_ref().get(..*len).unwrap_or(digest.as_ref()),
            Self::Made(data) => data,
            Self::Whole(data) => data,
        }
    }
}

impl Scheme {
    /// What `parameters` ask for with a key of this `kind`.
    ///
    /// What they leave out is PKCS#1 v1.5 with SHA-256 for RSA, and for ECDSA the hash that belongs to the curve.
    ///
    /// # Errors
    /// Invalid Field: parameters that do not exist, do not fit each other or do not fit the key.
    pub(super) fn choose(kind: KeyKind, parameters: &CryptographicParameters) -> Outcome<Self> {
        let asked = Asked::read(parameters)?;
        match kind {
            KeyKind::Rsa { bits } => {
                asked.expect_algorithm(&[CryptographicAlgorithm::RSA])?;
                asked.rsa(parameters, bits)
            }
            KeyKind::Ec(curve) if curve.is_edwards() => {
                asked.expect_algorithm(&[CryptographicAlgorithm::ED25519, CryptographicAlgorithm::ED448])?;
                asked.expect_no_padding()?;
                match asked.hash {
                    // EdDSA has its hash built in; naming it does no harm.
                    None => Ok(Self::Eddsa),
                    Some(Hash::Sha512) if curve == Curve::Ed25519 => Ok(Self::Eddsa),
                    Some(_) => Err(Failure::invalid_field("EdDSA takes no Hashing Algorithm")),
                }
            }
            KeyKind::Ec(curve) => {
                asked.expect_algorithm(&[CryptographicAlgorithm::ECDSA, CryptographicAlgorithm::EC])?;
                asked.expect_no_padding()?;
                let own = match curve {
                    Curve::P384 => Hash::Sha384,
                    Curve::P521 => Hash::Sha512,
                    _ => Hash::Sha256,
                };
                Ok(Self::Ecdsa(asked.hash.unwrap_or(own), curve))
            }
            KeyKind::Other(_) => {
                Err(Failure::new(ResultReason::ILLEGAL_OPERATION, "keys of this kind do not sign here"))
            }
        }
    }

    /// Refuses a scheme that may only verify.
    ///
    /// # Errors
    /// Invalid Field for SHA-1.
    pub(super) fn may_sign(self) -> Outcome<Self> {
        let hashes = match self {
            Self::RsaPkcs1(hash) | Self::Ecdsa(hash, _) => [hash, hash],
            Self::RsaPss { hash, mask_hash, .. } => [hash, mask_hash],
            Self::Eddsa => return Ok(self),
        };
        if hashes.contains(&Hash::Sha1) {
            return Err(Failure::invalid_field("SHA-1 is for verifying, not for signing"));
        }
        Ok(self)
    }

    /// The call that makes (or, for [`Use::Verify`], checks) such a signature on a token with these `mechanisms`, by another one
    /// than those of `but`; one that the token has refused before comes last.
    ///
    /// ECDSA is hashed here: every token has plain CKM_ECDSA, and less goes over the wire to a network HSM. RSA is left to the
    /// token's own combined mechanism where it has one (a token in FIPS mode may have nothing else), and put together here
    /// where not.
    ///
    /// # Errors
    /// Invalid Field: the token has no mechanism for it, or the digest has the wrong length.
    pub(super) fn call<'a>(
        self,
        mechanisms: &Mechanisms,
        wanted: Use,
        input: Input<'a>,
        but: &[MechanismType],
    ) -> Outcome<Call<'a>> {
        let has = |mechanism| mechanisms.supports(mechanism, wanted) && !but.contains(&mechanism);
        let call = match self.call_by(&|mechanism| has(mechanism) && mechanisms.takes(mechanism), input)? {
            None => self.call_by(&has, input)?,
            call => call,
        };
        call.ok_or_else(|| Failure::invalid_field("the token has no mechanism for these Cryptographic Parameters"))
    }

    fn call_by<'a>(self, has: &dyn Fn(MechanismType) -> bool, input: Input<'a>) -> Outcome<Option<Call<'a>>> {
        let whole = |mechanism, data| Ok(Some(Call { mechanism, data: Data::Whole(data) }));
        let digest = |mechanism, digest, len| Ok(Some(Call { mechanism, data: Data::Digest(digest, len) }));
        match (self, input) {
            (Self::RsaPkcs1(hash), Input::Data(data)) if has(hash.rsa_pkcs()) => whole(hash.rsa_pkcs_mechanism(), data),
            (Self::RsaPkcs1(hash), input) if has(MechanismType::RSA_PKCS) => {
                let info = der::digest_info(hash.oid(), hash.digest(input)?.as_ref());
                Ok(Some(Call { mechanism: Mechanism::RsaPkcs, data: Data::Made(info) }))
            }
            (Self::RsaPss { hash, mask_hash, salt }, Input::Data(data)) if has(hash.rsa_pss()) => {
                whole(hash.rsa_pss_mechanism(pss(hash, mask_hash, salt)), data)
            }
            (Self::RsaPss { hash, mask_hash, salt }, input) if has(MechanismType::RSA_PKCS_PSS) => {
                digest(Mechanism::RsaPkcsPss(pss(hash, mask_hash, salt)), hash.digest(input)?, hash.len())
            }
            (Self::Ecdsa(hash, curve), input) if has(MechanismType::ECDSA) => {
                // A hash longer than the curve is cut to it (FIPS 186-4, 6.4); some tokens refuse to do that themselves.
                digest(Mechanism::Ecdsa, hash.digest(input)?, curve.coordinate_len())
            }
            (Self::Ecdsa(hash, _), Input::Data(data)) if has(hash.ecdsa()) => whole(hash.ecdsa_mechanism(), data),
            (Self::Eddsa, Input::Data(data)) if has(MechanismType::EDDSA) => {
                // Ed448 wants CK_EDDSA_PARAMS by the letter, but the binding leaves them pointing to memory that is gone;
                // tokens take the curve's default from no parameters.
                whole(Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)), data)
            }
            (Self::Eddsa, Input::Digest(_)) => Err(Failure::invalid_field("EdDSA signs data, not a digest")),
            _ => Ok(None),
        }
    }

    /// KMIP's form of the signature that the token made.
    ///
    /// # Errors
    /// Cryptographic Failure: the token answered something that is no signature.
    pub(super) fn to_kmip(self, signature: Vec<u8>) -> Outcome<Vec<u8>> {
        let Self::Ecdsa(_, curve) = self else { return Ok(signature) };
        let halves = Some(signature).filter(|halves| halves.len() == curve.coordinate_len().saturating_mul(2));
        halves.and_then(|halves| der::ecdsa_signature(&halves)).ok_or_else(|| {
            Failure::new(ResultReason::CRYPTOGRAPHIC_FAILURE, "the token answered a signature of the wrong length")
        })
    }

    /// The token's form of a signature in KMIP's; `None` if it cannot be one.
    pub(super) fn to_pkcs11(self, signature: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Ecdsa(_, curve) => der::ecdsa_halves(signature, curve.coordinate_len()).map(Cow::Owned),
            _ => Some(Cow::Borrowed(signature)),
        }
    }
}

/// The mechanism that makes keys of a kind.
pub(super) fn generator(kind: KeyKind) -> MechanismType {
    match kind {
        KeyKind::Ec(curve) if curve.is_edwards() => MechanismType::ECC_EDWARDS_KEY_PAIR_GEN,
        KeyKind::Ec(_) => MechanismType::ECC_KEY_PAIR_GEN,
        KeyKind::Rsa { .. } | KeyKind::Other(_) => MechanismType::RSA_PKCS_KEY_PAIR_GEN,
    }
}

/// Every mechanism by which a token can sign, or verify, something here.
pub(super) fn any_signature(mechanisms: &Mechanisms, wanted: Use) -> bool {
    let hashes = [Hash::Sha256, Hash::Sha384, Hash::Sha512];
    let combined = hashes.iter().flat_map(|hash| [hash.rsa_pkcs(), hash.rsa_pss(), hash.ecdsa()]);
    let plain = [MechanismType::RSA_PKCS, MechanismType::RSA_PKCS_PSS, MechanismType::ECDSA, MechanismType::EDDSA];
    combined.chain(plain).any(|mechanism| mechanisms.supports(mechanism, wanted))
}

/// The parameters, each in the one place where it can be told.
struct Asked {
    algorithm: Option<CryptographicAlgorithm>,
    padding: Option<PaddingMethod>,
    hash: Option<Hash>,
}

impl Asked {
    fn read(parameters: &CryptographicParameters) -> Outcome<Self> {
        use DigitalSignatureAlgorithm as D;
        let (rsa, pkcs1) = (Some(CryptographicAlgorithm::RSA), Some(PaddingMethod::PKCS1_V1_5));
        let ecdsa = Some(CryptographicAlgorithm::ECDSA);
        let (algorithm, padding, hash) = match parameters.digital_signature_algorithm {
            None => (None, None, None),
            Some(D::SHA_1_WITH_RSA) => (rsa, pkcs1, Some(Hash::Sha1)),
            Some(D::SHA_256_WITH_RSA) => (rsa, pkcs1, Some(Hash::Sha256)),
            Some(D::SHA_384_WITH_RSA) => (rsa, pkcs1, Some(Hash::Sha384)),
            Some(D::SHA_512_WITH_RSA) => (rsa, pkcs1, Some(Hash::Sha512)),
            Some(D::RSASSA_PSS) => (rsa, Some(PaddingMethod::PSS), None),
            Some(D::ECDSA_WITH_SHA_1) => (ecdsa, None, Some(Hash::Sha1)),
            Some(D::ECDSA_WITH_SHA256) => (ecdsa, None, Some(Hash::Sha256)),
            Some(D::ECDSA_WITH_SHA384) => (ecdsa, None, Some(Hash::Sha384)),
            Some(D::ECDSA_WITH_SHA512) => (ecdsa, None, Some(Hash::Sha512)),
            Some(other) => {
                return Err(Failure::invalid_field(format!("Digital Signature Algorithm {other} is not served")));
            }
        };
        let named = parameters.hashing_algorithm.map(Hash::named).transpose()?;
        Ok(Self {
            algorithm: agree("Cryptographic Algorithm", parameters.cryptographic_algorithm, algorithm)?,
            padding: agree("Padding Method", parameters.padding_method, padding)?,
            hash: agree("Hashing Algorithm", named, hash)?,
        })
    }

    fn rsa(&self, parameters: &CryptographicParameters, bits: u32) -> Outcome<Scheme> {
        let hash = self.hash.unwrap_or(Hash::Sha256);
        match self.padding {
            None | Some(PaddingMethod::PKCS1_V1_5) => Ok(Scheme::RsaPkcs1(hash)),
            Some(PaddingMethod::PSS) => {
                if parameters.mask_generator.is_some_and(|generator| generator != MaskGenerator::MGF1) {
                    return Err(Failure::invalid_field("the Mask Generator of PSS is MGF1"));
                }
                if parameters.trailer_field.is_some_and(|trailer| trailer != 1) {
                    return Err(Failure::invalid_field("the Trailer Field of PSS is 1"));
                }
                // KMIP 1.4 (section 3.6) defaults to SHA-1 here, and to its block size for the salt. No version before said so, most tokens
                // refuse another hash inside MGF1, and verifiers expect a salt of the hash's length.
                let mask_hash = parameters.mask_generator_hashing_algorithm.map_or(Ok(hash), Hash::named)?;
                let salt = parameters.salt_length.map_or(Ok(hash.len()), |salt| {
                    usize::try_from(salt).map_err(|_| Failure::invalid_field(format!("Salt Length {salt}")))
                })?;
                // The encoding holds hash, salt and two bytes more (RFC 8017, section 9.1.1). What is longer need not reach a C library.
                let encoding = usize::try_from(bits.saturating_sub(1).div_ceil(8)).unwrap_or(usize::MAX);
                if bits != 0 && hash.len().saturating_add(salt).saturating_add(2) > encoding {
                    return Err(Failure::invalid_field(format!("Salt Length {salt} is too long for the key")));
                }
                Ok(Scheme::RsaPss { hash, mask_hash, salt })
            }
            Some(other) => Err(Failure::invalid_field(format!("Padding Method {other} is not for signatures"))),
        }
    }

    fn expect_algorithm(&self, fitting: &[CryptographicAlgorithm]) -> Outcome<()> {
        match self.algorithm {
            Some(other) if !fitting.contains(&other) => {
                Err(Failure::invalid_field(format!("Cryptographic Algorithm {other} does not fit the key")))
            }
            _ => Ok(()),
        }
    }

    fn expect_no_padding(&self) -> Outcome<()> {
        match self.padding {
            None | Some(PaddingMethod::NONE) => Ok(()),
            Some(other) => Err(Failure::invalid_field(format!("Padding Method {other} does not fit the key"))),
        }
    }
}

fn agree<T: PartialEq>(field: &str, told: Option<T>, implied: Option<T>) -> Outcome<Option<T>> {
    match (told, implied) {
        (Some(told), Some(implied)) if told != implied => {
            Err(Failure::invalid_field(format!("{field} contradicts the Digital Signature Algorithm")))
        }
        (told, implied) => Ok(told.or(implied)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kmip::HashingAlgorithm;

    const RSA: KeyKind = KeyKind::Rsa { bits: 2048 };

    fn choose(kind: KeyKind, parameters: CryptographicParameters) -> Result<Scheme, ResultReason> {
        Scheme::choose(kind, &parameters).map_err(|failure| failure.reason)
    }

    #[test]
    fn chooses_what_dnst_asks_for() {
        let rsa = CryptographicParameters {
            padding_method: Some(PaddingMethod::PKCS1_V1_5),
            hashing_algorithm: Some(HashingAlgorithm::SHA_256),
            cryptographic_algorithm: Some(CryptographicAlgorithm::RSA),
            ..Default::default()
        };
        assert_eq!(choose(RSA, rsa), Ok(Scheme::RsaPkcs1(Hash::Sha256)));
        let ecdsa = CryptographicParameters {
            hashing_algorithm: Some(HashingAlgorithm::SHA_256),
            cryptographic_algorithm: Some(CryptographicAlgorithm::ECDSA),
            ..Default::default()
        };
        assert_eq!(choose(KeyKind::Ec(Curve::P256), ecdsa), Ok(Scheme::Ecdsa(Hash::Sha256, Curve::P256)));
        assert_eq!(choose(RSA, ecdsa), Err(ResultReason::INVALID_FIELD));
    }

    #[test]
    fn chooses_by_the_key_what_is_left_out() {
        let none = CryptographicParameters::default();
        assert_eq!(choose(RSA, none), Ok(Scheme::RsaPkcs1(Hash::Sha256)));
        for (curve, hash) in [(Curve::P256, Hash::Sha256), (Curve::P384, Hash::Sha384), (Curve::P521, Hash::Sha512)] {
            assert_eq!(choose(KeyKind::Ec(curve), none), Ok(Scheme::Ecdsa(hash, curve)));
        }
        assert_eq!(choose(KeyKind::Ec(Curve::Ed448), none), Ok(Scheme::Eddsa));
    }

    #[test]
    fn refuses_a_hash_that_contradicts_the_signature_algorithm() {
        let parameters = CryptographicParameters {
            hashing_algorithm: Some(HashingAlgorithm::SHA_256),
            digital_signature_algorithm: Some(DigitalSignatureAlgorithm::SHA_512_WITH_RSA),
            ..Default::default()
        };
        assert_eq!(choose(RSA, parameters), Err(ResultReason::INVALID_FIELD));
    }

    #[test]
    fn takes_the_salt_to_be_as_long_as_the_hash_unless_told() {
        let mut parameters = CryptographicParameters {
            padding_method: Some(PaddingMethod::PSS),
            hashing_algorithm: Some(HashingAlgorithm::SHA_384),
            ..Default::default()
        };
        let (hash, mask_hash) = (Hash::Sha384, Hash::Sha384);
        assert_eq!(choose(RSA, parameters), Ok(Scheme::RsaPss { hash, mask_hash, salt: 48 }));
        parameters.salt_length = Some(20);
        assert_eq!(choose(RSA, parameters), Ok(Scheme::RsaPss { hash, mask_hash, salt: 20 }));
        parameters.mask_generator_hashing_algorithm = Some(HashingAlgorithm::SHA_1);
        let sha1 = Ok(Scheme::RsaPss { hash, mask_hash: Hash::Sha1, salt: 20 });
        assert_eq!(choose(RSA, parameters), sha1, "as KMIP 1.4 would have it, when told");
        for (trailer, fits) in [(1, true), (0, false), (2, false), (0xbc, false)] {
            parameters.trailer_field = Some(trailer);
            assert_eq!(choose(RSA, parameters).is_ok(), fits, "{trailer}");
        }
        parameters.trailer_field = None;
        for (salt, fits) in [(-1, false), (256 - 48 - 2, true), (256 - 48 - 1, false), (i32::MAX, false)] {
            parameters.salt_length = Some(salt);
            assert_eq!(choose(RSA, parameters).is_ok(), fits, "{salt}");
        }
    }

    #[test]
    fn sha_1_verifies_and_does_not_sign() {
        let scheme = Scheme::RsaPkcs1(Hash::Sha1);
        assert_eq!(scheme.may_sign().map_err(|failure| failure.reason), Err(ResultReason::INVALID_FIELD));
        assert_eq!(Scheme::Eddsa.may_sign(), Ok(Scheme::Eddsa));
    }
}
