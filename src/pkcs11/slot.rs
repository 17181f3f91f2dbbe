//! The tokens in the module's slots, and how a client's word names one.
#![forbid(unsafe_code)]

use std::sync::PoisonError;

use cryptoki::slot::{Limit, Slot};

use super::error::Error;
use super::gate::Refusal;
use super::module::Inside;

/// A token as it describes itself (CK_TOKEN_INFO), at the time it was first seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenInfo {
    /// The slot it is in.
    pub slot_id: u64,
    /// Its label, without padding.
    pub label: String,
    /// Its manufacturer.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// Firmware version as `major.minor`.
    pub firmware_version: String,
    /// CKF_TOKEN_INITIALIZED.
    pub initialized: bool,
    /// CKF_USER_PIN_INITIALIZED.
    pub user_pin_initialized: bool,
    /// CKF_LOGIN_REQUIRED.
    pub login_required: bool,
    /// CKF_PROTECTED_AUTHENTICATION_PATH: the PIN is typed at the token.
    pub protected_authentication_path: bool,
    /// CKF_WRITE_PROTECTED.
    pub write_protected: bool,
    /// CKF_RNG.
    pub rng: bool,
    /// Most sessions this program may have open, if the token sets a limit.
    pub max_sessions: Option<u64>,
    /// Most read/write sessions this program may have open, if the token sets a limit.
    pub max_rw_sessions: Option<u64>,
}

impl TokenInfo {
    pub(super) fn new(slot: Slot, info: &cryptoki::slot::TokenInfo) -> Self {
        let limit = |limit| match limit {
            Limit::Max(most) => Some(most),
            Limit::Infinite | Limit::Unavailable => None,
        };
        Self {
            slot_id: slot.id(),
            label: trimmed(info.label()),
            manufacturer: trimmed(info.manufacturer_id()),
            model: trimmed(info.model()),
            serial: trimmed(info.serial_number()),
            firmware_version: info.firmware_version().to_string(),
            initialized: info.token_initialized(),
            user_pin_initialized: info.user_pin_initialized(),
            login_required: info.login_required(),
            protected_authentication_path: info.protected_authentication_path(),
            write_protected: info.write_protected(),
            rng: info.rng(),
            max_sessions: limit(info.max_session_count()),
            max_rw_sessions: limit(info.max_rw_session_count()),
        }
    }

    /// How the token is called in the log: its label, or its slot if it has none.
    pub fn name(&self) -> String {
        if self.label.is_empty() {
            format!("in slot {}", self.slot_id)
        } else {
            format!("'{}'", self.label.escape_debug())
        }
    }

    /// The one of `tokens` that `name` means: its label, else its serial number, else its slot.
    ///
    /// # Errors
    /// [`Refusal::AmbiguousToken`].
    pub fn named<'t>(tokens: &'t [Self], name: &str) -> Result<Option<&'t Self>, Refusal> {
        let candidates: Vec<_> = tokens.iter().map(|token| (token.slot_id, Some(token))).collect();
        let index = select(&candidates, name).map_err(|Ambiguous| Refusal::AmbiguousToken)?;
        Ok(index.and_then(|index| tokens.get(index)))
    }

    /// Whether `name` can be the number of a slot.
    pub fn is_slot(name: &str) -> bool {
        slot_id(name).is_some()
    }

    /// Whether it is the same token, initialised by the same person at the same time as far as it says.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.serial, &self.label) == (&other.serial, &other.label)
    }

    /// What can be said of a token that does not describe itself.
    pub(super) fn unreadable(slot: Slot) -> Self {
        Self { slot_id: slot.id(), ..Self::default() }
    }
}

/// A padded field without its padding: blanks as the standard has it, NULs as some modules do.
pub(super) fn trimmed(field: &str) -> String {
    field.trim_matches([' ', '\0']).to_string()
}

/// Every slot with a token in it; `None` for one that does not describe itself, of which the log is told once.
pub(super) fn scan(inside: &Inside<'_>) -> Result<Vec<(Slot, Option<TokenInfo>)>, Error> {
    let slots = inside.pkcs11().get_slots_with_token()?;
    Ok(slots.into_iter().map(|slot| (slot, describe(inside, slot))).collect())
}

fn describe(inside: &Inside<'_>, slot: Slot) -> Option<TokenInfo> {
    let mut unreadable = inside.library.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
    match inside.pkcs11().get_token_info(slot).map_err(Error::from) {
        Ok(info) => {
            unreadable.remove(&slot.id());
            Some(TokenInfo::new(slot, &info))
        }
        Err(error) => {
            if unreadable.insert(slot.id()) {
                let id = slot.id();
                log::warn!("slot {id}: C_GetTokenInfo: {error}\nhint: its token can be named by the slot id {id} only");
            }
            None
        }
    }
}

/// Several tokens answer to one name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ambiguous;

/// The index of the token that `name` means: one with this label, else with this serial number, else in this slot, given
/// in decimal or as `0x` and hexadecimal digits.
pub(super) fn select(tokens: &[(u64, Option<&TokenInfo>)], name: &str) -> Result<Option<usize>, Ambiguous> {
    let name = name.trim_matches([' ', '\0']);
    // Tokens that are not initialised have an empty label; a name that is empty means none of them.
    if name.is_empty() {
        return Ok(None);
    }
    let fields: [fn(&TokenInfo) -> &str; 2] = [|info| &info.label, |info| &info.serial];
    for field in fields {
        let mut named = tokens.iter().enumerate().filter(|(_, (_, info))| info.is_some_and(|info| field(info) == name));
        match (named.next(), named.next()) {
            (Some((index, _)), None) => return Ok(Some(index)),
            (Some(_), Some(_)) => return Err(Ambiguous),
            (None, _) => {}
        }
    }
    let Some(id) = slot_id(name) else { return Ok(None) };
    Ok(tokens.iter().position(|(slot, _)| *slot == id))
}

fn slot_id(name: &str) -> Option<u64> {
    match name.strip_prefix("0x").or_else(|| name.strip_prefix("0X")) {
        // from_str_radix takes a sign, which a slot id does not have.
        Some(hex) if hex.starts_with('+') => None,
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if name.starts_with('+') => None,
        None => name.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(slot_id: u64, label: &str, serial: &str) -> TokenInfo {
        TokenInfo { slot_id, label: label.into(), serial: serial.into(), ..TokenInfo::default() }
    }

    fn choose(tokens: &[TokenInfo], name: &str) -> Result<Option<usize>, Ambiguous> {
        let tokens: Vec<_> = tokens.iter().map(|info| (info.slot_id, Some(info))).collect();
        select(&tokens, name)
    }

    #[test]
    fn prefers_the_label_then_the_serial_number_then_the_slot_id() {
        let tokens = [token(7, "one", "aa"), token(8, "aa", "7"), token(1, "two", "bb")];
        assert_eq!(choose(&tokens, "one"), Ok(Some(0)));
        assert_eq!(choose(&tokens, "aa"), Ok(Some(1)));
        assert_eq!(choose(&tokens, "7"), Ok(Some(1)));
        assert_eq!(choose(&tokens, "8"), Ok(Some(1)));
        assert_eq!(choose(&tokens, "0x1"), Ok(Some(2)));
        assert_eq!(choose(&tokens, " two "), Ok(Some(2)));
        assert_eq!(choose(&tokens, "three"), Ok(None));
    }

    #[test]
    fn refuses_to_choose_between_equal_labels_and_between_equal_serial_numbers() {
        let tokens = [token(1, "twin", "aa"), token(2, "twin", "bb"), token(3, "x", "00"), token(4, "y", "00")];
        assert_eq!(choose(&tokens, "twin"), Err(Ambiguous));
        assert_eq!(choose(&tokens, "00"), Err(Ambiguous));
        assert_eq!(choose(&tokens, "aa"), Ok(Some(0)));
        assert_eq!(choose(&tokens, "2"), Ok(Some(1)));
    }

    #[test]
    fn an_empty_name_means_no_token() {
        let tokens = [token(0, "", "")];
        for name in ["", " ", "\0", "+0", "0x", "0x+0", "-0"] {
            assert_eq!(choose(&tokens, name), Ok(None), "{name:?}");
        }
        assert_eq!(choose(&tokens, "0"), Ok(Some(0)));
    }

    #[test]
    fn a_token_that_does_not_describe_itself_is_found_by_its_slot() {
        let other = token(4, "other", "aa");
        let tokens = [(3, None), (4, Some(&other))];
        assert_eq!(select(&tokens, "3"), Ok(Some(0)));
        assert_eq!(select(&tokens, "other"), Ok(Some(1)));
    }

    #[test]
    fn padding_is_blanks_or_nuls() {
        assert_eq!(trimmed("SW   TPM\0\0\0  "), "SW   TPM");
    }
}
