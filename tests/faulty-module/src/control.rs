//! The control file: found by `FAULTY_CONTROL`, read again when it is another one, and remembered as rules that count.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use cryptoki_sys::CK_FUNCTION_LIST;
use serde::Deserialize;
use toml::{Table, Value};

use crate::events;
use crate::faults::RuleState;
use crate::settings::{Fault, Settings, Token};

/// Where the profiles are that go by a bare name.
const PROFILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles");

/// What is in force.
#[derive(Default)]
pub struct Control {
    pub settings: Settings,
    pub rules: Vec<Rule>,
}

/// A fault and how often it came up so far.
#[derive(Clone)]
pub struct Rule {
    pub fault: Fault,
    /// The rule as written, by which it is known again in the next version of the file.
    text: String,
    pub state: Arc<RuleState>,
}

impl Control {
    /// What is said of the token with that label.
    pub fn token(&self, label: Option<&str>) -> &Token {
        label.and_then(|label| self.settings.tokens.get(label)).unwrap_or(&self.settings.token)
    }

    /// Whether a rule is still in force.
    pub fn has(&self, rule: &Rule) -> bool {
        self.rules.iter().any(|other| Arc::ptr_eq(&other.state, &rule.state))
    }
}

/// Enough of a file's metadata to know another version of it.
#[derive(Clone, Eq, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

struct Loaded {
    stamps: Option<Vec<Option<Stamp>>>,
    control: Arc<Control>,
}

/// What is in force now; what the files ask for once has happened when this returns.
pub fn current(real: &'static CK_FUNCTION_LIST) -> Arc<Control> {
    static LOADED: OnceLock<RwLock<Loaded>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| RwLock::new(Loaded { stamps: None, control: Arc::default() }));
    let stamps = stamps();
    {
        let loaded = loaded.read().unwrap_or_else(PoisonError::into_inner);
        if loaded.stamps.as_ref() == Some(&stamps) {
            return Arc::clone(&loaded.control);
        }
    }
    let mut loaded = loaded.write().unwrap_or_else(PoisonError::into_inner);
    let stamps = self::stamps();
    if loaded.stamps.as_ref() != Some(&stamps) {
        let control = Arc::new(read(&loaded.control));
        events::between(real, &loaded.control, &control);
        *loaded = Loaded { stamps: Some(stamps), control };
    }
    Arc::clone(&loaded.control)
}

fn files() -> &'static [PathBuf] {
    static FILES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FILES.get_or_init(|| {
        let files = std::env::var_os("FAULTY_CONTROL").unwrap_or_default();
        std::env::split_paths(&files).filter(|path| !path.as_os_str().is_empty()).map(place).collect()
    })
}

/// A bare word is the name of a profile.
fn place(path: PathBuf) -> PathBuf {
    match path.to_str() {
        Some(word) if !word.contains('/') => Path::new(PROFILES).join(format!("{word}.toml")),
        _ => path,
    }
}

fn stamps() -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let file = fs::metadata(path).ok()?;
        Some(Stamp {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    };
    files().iter().map(stamp).collect()
}

/// Reads the files over one another. A file that is not there says nothing; one that cannot be understood ends the
/// process, since a test whose faults are not played would pass for the wrong reason.
fn read(before: &Control) -> Control {
    let mut all = Table::new();
    for path in files() {
        match fs::read_to_string(path) {
            Ok(text) => merge(&mut all, parse(path, &text)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => give_up(path, &error.to_string()),
        }
    }
    let settings = settings(all).unwrap_or_else(|error| give_up(Path::new("FAULTY_CONTROL"), &error.to_string()));
    let mut rules: Vec<Rule> = Vec::new();
    for fault in &settings.fault {
        let text = format!("{fault:?}");
        let twins = rules.iter().filter(|rule| rule.text == text).count();
        let known = before.rules.iter().filter(|rule| rule.text == text).nth(twins);
        let state = known.map_or_else(Arc::default, |rule| Arc::clone(&rule.state));
        rules.push(Rule { fault: fault.clone(), text, state });
    }
    Control { settings, rules }
}

/// One file as a table, over the one beside it that it is like. It is known to make sense on its own: only so does an error
/// name its line.
fn parse(path: &Path, text: &str) -> Table {
    let settings: Settings = toml::from_str(text).unwrap_or_else(|error| give_up(path, &error.to_string()));
    let own: Table = toml::from_str(text).unwrap_or_else(|error| give_up(path, &error.to_string()));
    let Some(like) = settings.like else { return own };
    let below = path.with_file_name(format!("{like}.toml"));
    let text = fs::read_to_string(&below).unwrap_or_else(|error| give_up(&below, &error.to_string()));
    let mut all = parse(&below, &text);
    merge(&mut all, own);
    all
}

/// Tables join, lists grow, and anything else is replaced.
fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (Some(Value::Array(below)), Value::Array(above)) => below.extend(above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// What `[token]` says holds for each of `[tokens]` too, unless that says otherwise.
fn settings(mut all: Table) -> Result<Settings, toml::de::Error> {
    let every = all.get("token").and_then(Value::as_table).cloned().unwrap_or_default();
    if let Some(Value::Table(tokens)) = all.get_mut("tokens") {
        for token in tokens.iter_mut().filter_map(|(_, token)| token.as_table_mut()) {
            let own = std::mem::replace(token, every.clone());
            merge(token, own);
        }
    }
    Settings::deserialize(all)
}

fn give_up(path: &Path, error: &str) -> ! {
    eprintln!("faulty-module: {}: {error}", path.display());
    std::process::abort();
}
