//! Signatures as clients get them, for trying a token out without a client: the same mechanisms, the same forms; verified by
//! this program and not by the token.
#![forbid(unsafe_code)]

use cryptoki::mechanism::MechanismType;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};

use super::hash::Hash;
use super::mechanism::{Input, Scheme, generator};
use super::signing::{self, Unsigned};
use crate::pkcs11::{Curve, Key, KeyKind, Mechanisms, PublicKey, Token, Use};

/// A kind of key and how it signs.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What operators call it.
    pub name: &'static str,
    /// The kind that is made to try it.
    pub kind: KeyKind,
    /// How much it is missed where it does not work.
    pub standing: Standing,
    schemes: Vec<(&'static str, Scheme)>,
}

/// How much a kind of key is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Hardly.
    Rare,
    /// By some signers.
    Used,
    /// By nearly all.
    Common,
}

/// How a token signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct How {
    /// What is signed with, as `PKCS#1 v1.5 with SHA-256`.
    pub scheme: &'static str,
    /// The mechanism, if the token has one for it.
    pub mechanism: Option<MechanismType>,
    /// The hash is computed by this program.
    pub hashed_here: bool,
}

/// What a signature turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Right.
    Good,
    /// Not one of this key over this data.
    Bad,
    /// Right, says the token itself; this program cannot tell.
    GoodSaysToken,
}

impl Trial {
    /// Every kind that is served, the most used first.
    pub fn all() -> Vec<Self> {
        let pss = Scheme::RsaPss { hash: Hash::Sha256, mask_hash: Hash::Sha256, salt: Hash::Sha256.len() };
        let rsa = vec![
            ("PKCS#1 v1.5 with SHA-256", Scheme::RsaPkcs1(Hash::Sha256)),
            ("PKCS#1 v1.5 with SHA-512", Scheme::RsaPkcs1(Hash::Sha512)),
            ("PSS with SHA-256", pss),
        ];
        let ecdsa = |curve, hash| vec![("ECDSA", Scheme::Ecdsa(hash, curve))];
        let eddsa = || vec![("EdDSA", Scheme::Eddsa)];
        let trial = |name, kind, standing, schemes| Self { name, kind, standing, schemes };
        let curve = KeyKind::Ec;
        vec![
            trial("RSA-2048", KeyKind::Rsa { bits: 2048 }, Standing::Common, rsa),
            trial("P-256", curve(Curve::P256), Standing::Common, ecdsa(Curve::P256, Hash::Sha256)),
            trial("P-384", curve(Curve::P384), Standing::Used, ecdsa(Curve::P384, Hash::Sha384)),
            trial("P-521", curve(Curve::P521), Standing::Rare, ecdsa(Curve::P521, Hash::Sha512)),
            trial("Ed25519", curve(Curve::Ed25519), Standing::Used, eddsa()),
            trial("Ed448", curve(Curve::Ed448), Standing::Rare, eddsa()),
        ]
    }

    /// The mechanism that makes such keys.
    pub fn generator(&self) -> MechanismType {
        generator(self.kind)
    }

    /// Whether a token with these `mechanisms` makes such keys, as far as it tells.
    pub fn is_made_with(&self, mechanisms: &Mechanisms) -> bool {
        mechanisms.supports(self.generator(), Use::GenerateKeyPair)
    }

    /// How a token with these `mechanisms` signs with such keys.
    pub fn how(&self, mechanisms: &Mechanisms) -> Vec<How> {
        let how = |(name, scheme): &(&'static str, Scheme)| {
            let call = scheme.call(mechanisms, Use::Sign, Input::Data(&[]), &[]);
            let call = call.as_ref().ok();
            How {
                scheme: name,
                mechanism: call.map(|call| call.mechanism.mechanism_type()),
                hashed_here: call.is_some_and(|call| call.data.is_made_here()),
            }
        };
        self.schemes.iter().map(how).collect()
    }

    /// Signs `data` in the way of the number `way` of [`Self::how`].
    ///
    /// # Errors
    /// What a client would be told.
    pub fn sign(&self, token: &Token, key: &Key, way: usize, data: &[u8]) -> Result<Vec<u8>, String> {
        let scheme = self.scheme(way)?;
        let signed = signing::sign(token, key, scheme, Input::Data(data)).map_err(|unsigned| match unsigned {
            Unsigned::Unfit(failure) => failure.message.into_owned(),
            Unsigned::Failed(error) => error.to_string(),
        });
        scheme.to_kmip(signed?).map_err(|failure| failure.message.into_owned())
    }

    /// Judges a signature that [`Self::sign`] made. Where this program knows no such algorithm the token is asked, with its
    /// public key object.
    ///
    /// # Errors
    /// What a client would be told.
    pub fn verify(
        &self,
        token: &Token,
        key: &Key,
        way: usize,
        data: &[u8],
        signature: &[u8],
    ) -> Result<Signature, String> {
        let scheme = self.scheme(way)?;
        let public = key.public.as_ref().ok_or("the token does not tell the public key")?;
        if let Some(is_good) = verify(scheme, public, data, signature) {
            return Ok(if is_good { Signature::Good } else { Signature::Bad });
        }
        let input = Input::Data(data);
        let call =
            scheme.call(token.mechanisms(), Use::Verify, input, &[]).map_err(|failure| failure.message.into_owned())?;
        let signature = scheme.to_pkcs11(signature).ok_or("the signature is not in its form")?;
        match token.verify(key, &call.mechanism, &call.data, &signature) {
            Ok(true) => Ok(Signature::GoodSaysToken),
            Ok(false) => Ok(Signature::Bad),
            Err(error) => Err(error.to_string()),
        }
    }

    fn scheme(&self, way: usize) -> Result<Scheme, &'static str> {
        self.schemes.get(way).map(|(_, scheme)| *scheme).ok_or("there is no such scheme")
    }
}

/// Whether a signature is right; `None` where this program does not know the algorithm.
fn verify(scheme: Scheme, public: &PublicKey, data: &[u8], signature: &[u8]) -> Option<bool> {
    match public {
        PublicKey::Rsa { modulus, exponent } => {
            let algorithm = match scheme {
                Scheme::RsaPkcs1(Hash::Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
                Scheme::RsaPkcs1(Hash::Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
                Scheme::RsaPss { hash: Hash::Sha256, .. } => &signature::RSA_PSS_2048_8192_SHA256,
                _ => return None,
            };
            let key = RsaPublicKeyComponents { n: modulus, e: exponent };
            Some(key.verify(algorithm, data, signature).is_ok())
        }
        PublicKey::Ec { point, .. } => {
            let algorithm: &dyn VerificationAlgorithm = match scheme {
                Scheme::Ecdsa(Hash::Sha256, Curve::P256) => &signature::ECDSA_P256_SHA256_ASN1,
                Scheme::Ecdsa(Hash::Sha384, Curve::P384) => &signature::ECDSA_P384_SHA384_ASN1,
                Scheme::Eddsa if point.len() == Curve::Ed25519.point_len() => &signature::ED25519,
                _ => return None,
            };
            Some(UnparsedPublicKey::new(algorithm, point).verify(data, signature).is_ok())
        }
    }
}
