//! Signatures made and checked, and random numbers: the calls that clients wait for.
#![forbid(unsafe_code)]

use cryptoki::error::RvError;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session, UserType};
use zeroize::Zeroizing;

use super::error::Error;
use super::kept::REFUSED;
use super::key::{Class, Key, KeyKind};
use super::policy::LoginKind;
use super::token::Token;
use super::watch;
use crate::sys::Functions;

/// Bytes of random asked for in one call: some tokens refuse more.
const RANDOM_AT_ONCE: usize = 1024;

/// Google's module refuses fewer.
const LEAST_RANDOM: usize = 8;

/// Bytes of the longest signature that is waited for; an RSA key of 16384 bits makes one of 2048.
const LONGEST: usize = 65_536;

impl Token {
    /// Signs `data`, in one part, with a private or secret key.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Ambiguous`] if the key is gone or not alone; a failure of the module.
    pub fn sign(&self, key: &Key, mechanism: &Mechanism<'_>, data: &[u8]) -> Result<Vec<u8>, Error> {
        // tpm2-pkcs11 signs with the handle of a public key if it is asked to.
        if key.class == Class::PublicKey {
            return Err(Error::Unsupported("signing with a public key"));
        }
        self.on_object(key.class, &key.id, |session, object| self.sign_on(session, object, key, mechanism, data))
    }

    fn sign_on(
        &self,
        session: &Session,
        object: ObjectHandle,
        key: &Key,
        mechanism: &Mechanism<'_>,
        data: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let functions = self.library.functions().filter(|functions| functions.has_sign());
        // Before anything is begun that would then have to be ended.
        if key.always_authenticate {
            self.has_proof(session)?;
        }
        match functions {
            Some(functions) => {
                session.sign_init(mechanism, object)?;
                if key.always_authenticate {
                    self.authenticate(session)?;
                }
                sign_without_asking(functions, session, key, data)
            }
            None if !key.always_authenticate => Ok(session.sign(mechanism, object, data)?),
            // The binding has no other call after a login than this one, which some mechanisms do not have.
            None => {
                session.sign_init(mechanism, object)?;
                self.authenticate(session)?;
                session.sign_update(data)?;
                Ok(session.sign_final()?)
            }
        }
    }

    /// Whether there is what a key with CKA_ALWAYS_AUTHENTICATE is opened with, and it may be used.
    fn has_proof(&self, session: &Session) -> Result<(), Error> {
        match self.login_kind() {
            LoginKind::ProtectedPath => Ok(()),
            // The module may know a PIN, but it is to be given one here.
            LoginKind::None => Err(Error::NoPin),
            // One that the token has refused is not tried again.
            LoginKind::User if !self.gate.has_kept() => Err(REFUSED),
            LoginKind::User => self.look_whether_to_try(session),
        }
    }

    /// The login of its own that such a key wants between C_SignInit and C_Sign.
    fn authenticate(&self, session: &Session) -> Result<(), Error> {
        match self.login_kind() {
            LoginKind::ProtectedPath => {
                let _excuse = watch::types();
                Ok(session.login(UserType::ContextSpecific, None)?)
            }
            LoginKind::None => Err(Error::NoPin),
            LoginKind::User => self.log_in_for_key(session),
        }
    }

    /// Whether `signature` is the key's over `data`, in one part, with a public or secret key.
    ///
    /// # Errors
    /// As [`Self::sign`]. A signature that is wrong, or of a wrong length, is no error.
    pub fn verify(&self, key: &Key, mechanism: &Mechanism<'_>, data: &[u8], signature: &[u8]) -> Result<bool, Error> {
        if key.class == Class::PrivateKey {
            return Err(Error::Unsupported("verifying with a private key"));
        }
        // tpm2-pkcs11 says CKR_ARGUMENTS_BAD to it.
        if signature.is_empty() {
            return Ok(false);
        }
        let verified = self
            .on_object(key.class, &key.id, |session, object| Ok(session.verify(mechanism, object, data, signature)?));
        match verified {
            Ok(()) => Ok(true),
            Err(error) => match error.rv() {
                Some(RvError::SignatureInvalid | RvError::SignatureLenRange) => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// `len` bytes of the token's random, 8 bytes to 1 KiB in a call to the module.
    ///
    /// # Errors
    /// A failure of the module.
    pub fn random(&self, len: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut random = Zeroizing::new(vec![0; len]);
        self.run(|seat| {
            for part in random.chunks_mut(RANDOM_AT_ONCE) {
                if part.len() >= LEAST_RANDOM {
                    seat.session.generate_random_slice(part)?;
                    continue;
                }
                let mut least = Zeroizing::new([0; LEAST_RANDOM]);
                seat.session.generate_random_slice(least.as_mut_slice())?;
                part.iter_mut().zip(least.iter()).for_each(|(to, from)| *to = *from);
            }
            Ok(())
        })?;
        Ok(random)
    }

    /// The token refused a mechanism that it lists, and took another in its place for the same signature: from now on the other
    /// comes first.
    pub fn refused(&self, mechanism: MechanismType) {
        if let Some(offer) = self.mechanisms().info(mechanism) {
            offer.refuse();
        }
        self.learn(|learnt| {
            if !learnt.refused_mechanisms.contains(&mechanism) {
                learnt.refused_mechanisms.push(mechanism);
            }
        });
    }
}

/// C_Sign into a buffer of the length that the key's signatures have. To ask for it first costs a remote module a round trip, and
/// NetHSM answers CKR_BUFFER_TOO_SMALL for Ed25519.
fn sign_without_asking(functions: &Functions, session: &Session, key: &Key, data: &[u8]) -> Result<Vec<u8>, Error> {
    let mut signature = vec![0; signature_len(key)];
    let mut answer = functions.sign(session.handle(), data, &mut signature);
    if let Err((rv, wanted)) = answer {
        // The operation goes on after this one answer (PKCS#11 2.40, section 5.2).
        let is_short = Error::returned(C_SIGN, rv).rv() == Some(RvError::BufferTooSmall);
        if is_short && (signature.len()..=LONGEST).contains(&wanted) && wanted != signature.len() {
            signature.resize(wanted, 0);
            answer = functions.sign(session.handle(), data, &mut signature);
        }
    }
    match answer {
        Ok(len) => {
            signature.truncate(len);
            Ok(signature)
        }
        Err((rv, _)) => Err(Error::returned(C_SIGN, rv)),
    }
}

const C_SIGN: &str = "C_Sign";

/// Bytes of a signature by the key; generous where the key does not tell.
fn signature_len(key: &Key) -> usize {
    const UNKNOWN: usize = 2048;
    match key.kind {
        KeyKind::Rsa { bits } => match usize::try_from(bits.div_ceil(8)) {
            Ok(0) | Err(_) => UNKNOWN,
            Ok(len) => len,
        },
        KeyKind::Ec(curve) => curve.coordinate_len().saturating_mul(2),
        KeyKind::Other(_) => UNKNOWN,
    }
}
