//! The tokens in the module's slots, and how a client's word names one.
#![forbid(unsafe_code)]

use std::sync::PoisonError;

use cryptoki::context::Pkcs11;
use cryptoki::error::RvError;
use cryptoki::session::Session;
use cryptoki::slot::{Limit, Slot};

use super::error::Error;
use super::gate::Refusal;
use super::module::{Inside, Library};
use crate::sys::{Functions, RawTokenInfo};

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
    /// CKF_USER_PIN_COUNT_LOW: a wrong PIN was tried since the right one.
    pub user_pin_count_low: bool,
    /// CKF_USER_PIN_FINAL_TRY: one more wrong PIN locks it.
    pub user_pin_final_try: bool,
    /// CKF_USER_PIN_LOCKED.
    pub user_pin_locked: bool,
    /// Most sessions this program may have open, if the token sets a limit.
    pub max_sessions: Option<u64>,
    /// Most read/write sessions this program may have open, if the token sets a limit.
    pub max_rw_sessions: Option<u64>,
    /// Bytes that are free for public objects, if the token tells.
    pub free_public_memory: Option<u64>,
    /// Bytes that are free for private objects, if the token tells.
    pub free_private_memory: Option<u64>,
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
            user_pin_count_low: info.user_pin_count_low(),
            user_pin_final_try: info.user_pin_final_try(),
            user_pin_locked: info.user_pin_locked(),
            max_sessions: limit(info.max_session_count()),
            max_rw_sessions: limit(info.max_rw_session_count()),
            free_public_memory: info.free_public_memory().and_then(|bytes| bytes.try_into().ok()),
            free_private_memory: info.free_private_memory().and_then(|bytes| bytes.try_into().ok()),
        }
    }

    /// The same of a token whose time the binding does not understand: openCryptoki says "18:12:20".
    // CK_ULONG has the width of the platform's unsigned long.
    #[allow(clippy::useless_conversion)]
    fn raw(slot: Slot, info: &RawTokenInfo) -> Self {
        let text = |field: &[u8]| trimmed(&String::from_utf8_lossy(field));
        let has = |flag: u64| u64::from(info.flags) & flag != 0;
        // 0 is CK_EFFECTIVELY_INFINITE, all ones CK_UNAVAILABLE_INFORMATION.
        let told = |number| (number != std::ffi::c_ulong::MAX).then(|| u64::from(number));
        let limit = |number| told(number).filter(|most| *most != 0);
        let [major, minor] = info.firmware_version;
        Self {
            slot_id: slot.id(),
            label: text(&info.label),
            manufacturer: text(&info.manufacturer),
            model: text(&info.model),
            serial: text(&info.serial),
            firmware_version: format!("{major}.{minor}"),
            rng: has(0x1),
            write_protected: has(0x2),
            login_required: has(0x4),
            user_pin_initialized: has(0x8),
            protected_authentication_path: has(0x100),
            initialized: has(0x400),
            user_pin_count_low: has(0x1_0000),
            user_pin_final_try: has(0x2_0000),
            user_pin_locked: has(0x4_0000),
            max_sessions: limit(info.max_sessions),
            max_rw_sessions: limit(info.max_rw_sessions),
            free_public_memory: told(info.free_public_memory),
            free_private_memory: told(info.free_private_memory),
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

    /// Whether `other`, in another slot, could be taken for this one.
    pub(super) fn is_namesake(&self, other: &Self) -> bool {
        other.initialized && other.label == self.label && other.slot_id != self.slot_id
    }

    /// What can be said of a token that does not describe itself.
    pub(super) fn unreadable(slot: Slot) -> Self {
        Self { slot_id: slot.id(), ..Self::default() }
    }
}

/// What is answered where there is no token in a slot that there was one in.
pub(super) const EMPTY: Error = Error::Call { function: "C_GetSlotInfo", rv: RvError::TokenNotPresent };

/// Whether the slot says that there is no token in it: of a token of the network, that it does not work.
pub(super) fn is_empty(pkcs11: &Pkcs11, slot: Slot) -> bool {
    pkcs11.get_slot_info(slot).is_ok_and(|info| !info.token_present())
}

/// A padded field without its padding: blanks as the standard has it, NULs as some modules do.
pub(super) fn trimmed(field: &str) -> String {
    field.trim_matches([' ', '\0']).to_string()
}

/// Every slot with a token in it; `None` for one that does not describe itself, of which the log is told once.
pub(super) fn scan(inside: &Inside<'_>) -> Result<Vec<(Slot, Option<TokenInfo>)>, Error> {
    let slots = inside.pkcs11().get_slots_with_token()?;
    Ok(slots.into_iter().map(|slot| (slot, describe_or_tell(inside, slot))).collect())
}

/// What the token in a slot says of itself.
pub(super) fn describe(inside: &Inside<'_>, slot: Slot) -> Result<TokenInfo, Error> {
    describe_by(inside.pkcs11(), inside.functions(), slot)
}

/// The same for whoever has a session: he is inside.
pub(super) fn describe_from(session: &Session, library: &Library, slot: Slot) -> Result<TokenInfo, Error> {
    describe_by(library.pkcs11_of(session), library.functions(), slot)
}

fn describe_by(pkcs11: &Pkcs11, functions: Option<&Functions>, slot: Slot) -> Result<TokenInfo, Error> {
    match pkcs11.get_token_info(slot).map_err(Error::from) {
        Ok(info) => Ok(TokenInfo::new(slot, &info)),
        Err(error @ Error::Binding { .. }) => match functions.map(|direct| direct.token_info(slot.into())) {
            Some(Ok(info)) => Ok(TokenInfo::raw(slot, &info)),
            Some(Err(Some(rv))) => Err(Error::returned("C_GetTokenInfo", rv)),
            Some(Err(None)) | None => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn describe_or_tell(inside: &Inside<'_>, slot: Slot) -> Option<TokenInfo> {
    let described = describe(inside, slot);
    let mut unreadable = inside.library.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
    match described {
        Ok(info) => {
            unreadable.remove(&slot.id());
            Some(info)
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
        let of_name = |(index, (_, info)): (usize, &(u64, Option<&TokenInfo>))| {
            info.filter(|info| field(info) == name).map(|info| (index, info.initialized))
        };
        let named: Vec<(usize, bool)> = tokens.iter().enumerate().filter_map(of_name).collect();
        // openCryptoki and tpm2-pkcs11 give one serial number to all tokens, also to those that wait to be initialised.
        let ready: Vec<(usize, bool)> = named.iter().copied().filter(|(_, initialized)| *initialized).collect();
        match (named.as_slice(), ready.as_slice()) {
            ([(index, _)], _) | (_, [(index, _)]) => return Ok(Some(*index)),
            ([], _) => {}
            _ => return Err(Ambiguous),
        }
    }
    let Some(id) = slot_id(name) else { return Ok(None) };
    Ok(tokens.iter().position(|(slot, _)| *slot == id))
}

/// Whether `name` is one of those that a token answers to.
pub(super) fn is_called(token: &TokenInfo, name: &str) -> bool {
    let name = name.trim_matches([' ', '\0']);
    !name.is_empty() && (name == token.label || name == token.serial || slot_id(name) == Some(token.slot_id))
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
    fn a_token_that_waits_to_be_initialised_does_not_compete_for_a_serial_number() {
        let ready = |slot_id| TokenInfo { initialized: true, ..token(slot_id, "one", "123") };
        assert_eq!(choose(&[token(1, "", "123"), ready(2), token(3, "", "123")], "123"), Ok(Some(1)));
        assert_eq!(choose(&[ready(1), ready(2), token(3, "", "123")], "123"), Err(Ambiguous));
        assert_eq!(choose(&[token(1, "", "123"), token(2, "", "456")], "123"), Ok(Some(0)));
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
    fn reads_a_token_without_the_binding() {
        let mut info = RawTokenInfo {
            label: [b' '; 32],
            manufacturer: [b' '; 32],
            model: [0; 16],
            serial: *b"0123456789abcdef",
            flags: 0x2_0405,
            max_sessions: 0,
            sessions: 1,
            max_rw_sessions: 7,
            rw_sessions: 0,
            max_pin_len: 8,
            min_pin_len: 4,
            total_public_memory: std::ffi::c_ulong::MAX,
            free_public_memory: std::ffi::c_ulong::MAX,
            total_private_memory: 4096,
            free_private_memory: 1024,
            hardware_version: [1, 0],
            firmware_version: [3, 8],
            utc_time: *b"18:12:20        ",
        };
        info.label[..4].copy_from_slice(b"one ");
        let read = TokenInfo::raw(Slot::try_from(3_u64).unwrap(), &info);
        let expected = TokenInfo {
            slot_id: 3,
            label: "one".into(),
            serial: "0123456789abcdef".into(),
            firmware_version: "3.8".into(),
            rng: true,
            login_required: true,
            initialized: true,
            user_pin_final_try: true,
            max_rw_sessions: Some(7),
            free_private_memory: Some(1024),
            ..TokenInfo::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn padding_is_blanks_or_nuls() {
        assert_eq!(trimmed("SW   TPM\0\0\0  "), "SW   TPM");
    }
}
