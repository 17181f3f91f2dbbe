//! The control file as written. README.md describes each key.

use std::collections::BTreeMap;

use cryptoki_sys::CK_ULONG;
use serde::Deserialize;

use crate::names::{Attribute, Class, Flag, FunctionSet, KeyType, Mechanism, Rv, Value, Version, one_or_many};

/// A whole control file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    pub dump: u64,
    pub stage: Stage,
    pub like: Option<String>,
    pub module: Module,
    pub token: Token,
    pub tokens: BTreeMap<String, Token>,
    pub mechanisms: Mechanisms,
    pub objects: Objects,
    pub operations: Operations,
    pub events: Events,
    pub fault: Vec<Fault>,
    pub template: Vec<TemplateRule>,
    pub attribute: Vec<AttributeRule>,
}

/// What a profile asks of whoever plays it. The module itself has no use for it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stage {
    configuration: String,
    username: String,
    tokens: Vec<String>,
}

/// What belongs to the library rather than to a token.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Module {
    pub list_version: Option<Version>,
    pub interface: Option<Version>,
    pub cryptoki_version: Option<Version>,
    pub library_version: Option<Version>,
    pub manufacturer: Option<String>,
    pub description: Option<String>,
    pub absent: FunctionSet,
    pub list_per_call: bool,
    pub os_locking: Option<Rv>,
    pub initialize_again: Option<Rv>,
    pub one_at_a_time: bool,
    pub number_sessions: bool,
    pub needs_env: Vec<String>,
    pub stderr: Option<String>,
}

/// What a token says of itself, whom it lets in, and whether it is there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Token {
    pub away: bool,
    pub away_shows: Away,
    pub away_error: Option<Rv>,
    pub away_still_works: Option<FunctionSet>,
    pub heals: Heals,
    pub slot_says_empty: bool,

    pub label: Option<String>,
    pub serial: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub utc_time: Option<String>,
    pub set_flags: Vec<Flag>,
    pub clear_flags: Vec<Flag>,

    pub max_sessions: Option<u64>,
    pub max_rw_sessions: Option<u64>,
    pub says_max_sessions: Option<i64>,
    pub says_max_rw_sessions: Option<i64>,
    pub says_sessions: Option<i64>,
    pub free_public_memory: Option<i64>,
    pub free_private_memory: Option<i64>,
    pub refuse_read_only: Option<Rv>,
    pub refuse_read_write: Option<Rv>,
    pub session_state: Option<State>,

    pub wrong_pin: Option<Rv>,
    pub login_again: Option<Rv>,
    pub login_again_wrong_pin: Option<Rv>,
    pub pin_tries: Option<u32>,
    pub pin_prefix: Option<String>,
    pub malformed_pin: Option<Rv>,
    pub own_pin: Option<String>,
    pub any_pin: bool,
    pub login_per_session: bool,
}

/// How a token that is away looks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Away {
    /// As if pulled out: not listed, its sessions closed.
    #[default]
    Absent,
    /// Listed as ever, with its sessions, but calls fail.
    Error,
}

/// What a token that was away needs when it is back.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Heals {
    #[default]
    Itself,
    /// C_Finalize and C_Initialize.
    Initialize,
}

/// A session state that is said whatever the truth.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Public,
    User,
    RwUser,
}

/// Which mechanisms there are.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mechanisms {
    pub refuse: Vec<Mechanism>,
    pub only: Option<Vec<Mechanism>>,
    pub refuse_rv: Option<Rv>,
    pub unlisted: Vec<Mechanism>,
    pub hashed: Vec<Mechanism>,
    pub info: Vec<MechanismInfo>,
}

/// What C_GetMechanismInfo says of one mechanism.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MechanismInfo {
    pub mechanism: Mechanism,
    pub min_key: Option<u64>,
    pub max_key: Option<u64>,
    #[serde(default)]
    pub set_flags: Vec<Flag>,
    #[serde(default)]
    pub clear_flags: Vec<Flag>,
}

/// How objects are made, found and destroyed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Objects {
    pub hide: Vec<Class>,
    pub extra: u32,
    pub extra_class: Option<Class>,
    pub destroy_pair: bool,
    pub destroy_private: bool,
    pub same_id: bool,
    pub same_label: bool,
    pub id_when_none: Option<usize>,
    pub id_length: Option<usize>,
    pub label_is_id: bool,
    pub unique_id: Option<Rv>,
    pub find_batch: Option<usize>,
    pub found_after_ms: Option<u64>,
    pub number_handles: bool,
    pub handles_by_session: bool,
}

/// How cryptographic operations end.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Operations {
    pub stay_active_after_error: bool,
}

/// Things that happen once, when `number` becomes another one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    pub number: u64,
    #[serde(rename = "do", deserialize_with = "one_or_many")]
    pub happen: Vec<Event>,
}

/// Something that happens behind the caller's back.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Every session is closed.
    CloseSessions,
    /// As if the device had been out and in again: every session is lost and says so once.
    Reconnect,
    /// Every token is logged out of; sessions stay.
    Logout,
    /// Every call fails until C_Finalize and C_Initialize.
    Break,
    /// Every call hangs until `unjam`.
    Jam,
    Unjam,
    /// The count of wrong PINs starts again.
    UnlockPin,
}

/// Something that goes wrong in a call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fault {
    #[serde(alias = "function")]
    pub functions: FunctionSet,

    #[serde(default)]
    pub token: Option<String>,
    #[serde(default, deserialize_with = "one_or_many")]
    pub mechanism: Vec<Mechanism>,
    #[serde(default)]
    pub class: Option<Class>,
    #[serde(default)]
    pub over_bytes: Option<u64>,
    #[serde(default)]
    pub under_bytes: Option<u64>,
    #[serde(default)]
    pub query: Option<bool>,
    #[serde(default, deserialize_with = "one_or_many")]
    pub answered: Vec<Rv>,
    #[serde(default)]
    pub concurrent: bool,
    #[serde(default)]
    pub alongside: Option<FunctionSet>,

    #[serde(default)]
    pub skip: u64,
    #[serde(default)]
    pub every: Option<u64>,
    #[serde(default)]
    pub next: Option<u64>,
    #[serde(default)]
    pub chance: Option<f64>,
    #[serde(default)]
    pub seed: u64,
    /// Another number here makes the rule a new one, which counts from the start.
    #[serde(default)]
    #[expect(dead_code, reason = "it only makes the rule differ from the one before")]
    pub arm: u64,

    #[serde(default)]
    pub after: bool,
    #[serde(default)]
    pub delay_ms: f64,
    #[serde(default)]
    pub hang: bool,
    #[serde(default)]
    pub abort: bool,
    #[serde(default)]
    pub panic: bool,
    #[serde(default)]
    pub rv: Option<Rv>,
    #[serde(default)]
    pub corrupt: bool,
    #[serde(default)]
    pub shorten: Option<u64>,
    #[serde(default)]
    pub endless: bool,
    #[serde(default, deserialize_with = "one_or_many")]
    pub events: Vec<Event>,
}

/// What happens to an attribute in a template.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TemplateRule {
    #[serde(default, alias = "function")]
    pub functions: Option<FunctionSet>,
    #[serde(default)]
    pub class: Option<Class>,
    #[serde(default, deserialize_with = "one_or_many")]
    pub mechanism: Vec<Mechanism>,
    #[serde(default)]
    pub attribute: Option<Attribute>,
    #[serde(default)]
    pub value: Option<Value>,
    #[serde(default)]
    pub other_than: Vec<Value>,
    #[serde(default)]
    pub more_than: Option<CK_ULONG>,
    #[serde(default)]
    pub less_than: Option<CK_ULONG>,
    #[serde(default)]
    pub longer_than: Option<usize>,
    #[serde(default)]
    pub shorter_than: Option<usize>,
    #[serde(default)]
    pub missing: bool,
    #[serde(default)]
    pub duplicate: bool,
    #[serde(default)]
    pub only: Option<Vec<Attribute>>,
    #[serde(default)]
    pub with: BTreeMap<Attribute, Value>,

    #[serde(default)]
    pub rv: Option<Rv>,
    #[serde(default)]
    pub cut: Option<usize>,
    #[serde(default)]
    pub drop: bool,
    #[serde(default)]
    pub set: Option<Value>,
    #[serde(default)]
    pub jam: bool,
    #[serde(default)]
    pub abort: bool,
}

/// What C_GetAttributeValue answers for an attribute.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AttributeRule {
    #[serde(rename = "attribute", deserialize_with = "one_or_many")]
    pub attributes: Vec<Attribute>,
    #[serde(default)]
    pub class: Option<Class>,
    #[serde(default)]
    pub key_type: Option<KeyType>,

    #[serde(default)]
    pub rv: Option<Rv>,
    #[serde(default)]
    pub whole: bool,
    #[serde(default)]
    pub value: Option<Value>,
    #[serde(default)]
    pub form: Option<Form>,
    #[serde(default)]
    pub partner: bool,
}

/// How a value is wrapped.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Without the OCTET STRING around it.
    Raw,
    /// In a BIT STRING instead of an OCTET STRING.
    BitString,
    /// With a zero byte in front.
    LeadingZero,
    /// The SubjectPublicKeyInfo of the key, made from its other attributes or its partner's.
    Info,
}
