//! What only an operator asks of a module: every slot, what the library lacks, what a token can do before anybody logs in.
#![forbid(unsafe_code)]

use cryptoki::context::Function;
use cryptoki::slot::Slot;

use super::error::Error;
use super::mechanisms::Mechanisms;
use super::slot::{self, TokenInfo};
use super::token::Token;
use super::tokens::Tokens;

/// A slot (CK_SLOT_INFO) and the token in it.
#[derive(Clone, Debug)]
pub struct SlotInfo {
    /// Its number.
    pub id: u64,
    /// What it is.
    pub description: String,
    /// CKF_TOKEN_PRESENT: what the token says of itself, or why it says nothing.
    pub token: Option<Result<TokenInfo, Error>>,
}

/// Functions that a module may be without, each with what is missing then.
const OPTIONAL: &[(Function, &str, &str)] = &[
    (Function::GenerateKeyPair, "C_GenerateKeyPair", "no keys can be made"),
    (Function::SetAttributeValue, "C_SetAttributeValue", "keys cannot be renamed"),
    (Function::DestroyObject, "C_DestroyObject", "keys cannot be destroyed"),
    (Function::Verify, "C_Verify", "there is no Signature Verify"),
    (Function::GenerateRandom, "C_GenerateRandom", "there is no RNG Retrieve"),
];

impl Tokens {
    /// Every slot of the module, with or without a token.
    ///
    /// # Errors
    /// The module does not list its slots.
    pub fn slots(&self) -> Result<Vec<SlotInfo>, Error> {
        let inside = self.library.enter()?;
        let slots = inside.pkcs11().get_all_slots()?;
        let describe = |slot: Slot| {
            let info = inside.pkcs11().get_slot_info(slot).ok();
            // A slot that says nothing of itself may have a token all the same.
            let present = info.as_ref().is_none_or(cryptoki::slot::SlotInfo::token_present);
            let token = present.then(|| slot::describe(&inside, slot));
            SlotInfo {
                id: slot.id(),
                description: info.map_or_else(String::new, |info| slot::trimmed(info.slot_description())),
                token,
            }
        };
        Ok(slots.into_iter().map(describe).collect())
    }

    /// The functions that the module does not have, each with what cannot be done without it.
    ///
    /// # Errors
    /// The module is shut down.
    pub fn lacks(&self) -> Result<Vec<(&'static str, &'static str)>, Error> {
        let inside = self.library.enter()?;
        let lacking = OPTIONAL.iter().filter(|(function, ..)| !inside.pkcs11().is_fn_supported(*function));
        Ok(lacking.map(|(_, name, without)| (*name, *without)).collect())
    }

    /// Opens a session as serving does, and closes it.
    ///
    /// # Errors
    /// A failure of the module.
    pub fn try_session(&self, slot_id: u64) -> Result<(), Error> {
        let slot = Slot::try_from(slot_id)?;
        let inside = self.library.enter()?;
        match inside.pkcs11().open_rw_session(slot).map_err(Error::from) {
            Err(error) if error.rv() == Some(cryptoki::error::RvError::TokenWriteProtected) => {
                inside.pkcs11().open_ro_session(slot)?;
            }
            other => drop(other?),
        }
        Ok(())
    }
}

impl Token {
    /// What the token can do, as far as it tells that without a login.
    ///
    /// # Errors
    /// A failure of the module.
    pub fn mechanisms_before_login(&self) -> Result<Mechanisms, Error> {
        Mechanisms::read(self.library.enter()?.pkcs11(), self.slot, &self.policy.omit_mechanisms)
    }
}
