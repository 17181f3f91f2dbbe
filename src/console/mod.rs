//! What the commands that look at tokens have in common: as whom they do it, at which token, and with which PIN.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::bridge::access::{self, Clients, Login};
use crate::config::Config;
use crate::pkcs11::{Pin, Refusal, Token, TokenInfo, Tokens};
use crate::sys;

/// What the command line says to each of these commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Answer in JSON.
    pub json: bool,
    /// The file whose first line is the token's PIN.
    pub pin_file: Option<PathBuf>,
    /// The token to look at: its label, serial number or slot.
    pub token: Option<String>,
}

/// A command's way to a token, with the secrets for it. There is no Debug: it holds PINs.
pub struct Visit {
    clients: Clients,
    pin: Option<Arc<Zeroizing<Vec<u8>>>>,
    token: Option<String>,
}

/// The token that a command is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// A name that means it and no other.
    pub name: String,
    /// What it says of itself; `None` if that cannot be read.
    pub info: Option<TokenInfo>,
}

/// Why no token is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// Several have the name asked for.
    Ambiguous(String),
    /// There is none with the name asked for.
    Missing(String),
    /// There is none that is initialised.
    None,
    /// None was asked for, and there are several.
    Several,
}

/// Why a command does not get into a token.
#[derive(Debug)]
pub enum Denied {
    /// The PIN is not known, and could not be asked for.
    NoPin(io::Error),
    /// Nothing was typed.
    NothingTyped,
    /// The token, or what stands before it, refuses.
    Refused(Refusal),
}

impl Visit {
    /// Reads the secrets that the command line and the configuration name: before root is given up, as the server does.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn prepare(questions: &Questions, settings: &access::Settings) -> Result<Self, access::Error> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
        Ok(Self {
            clients: Clients::load(settings, credentials.as_deref().map(Path::new))?,
            pin: questions.pin_file.as_deref().map(access::read_secret).transpose()?.map(Arc::new),
            token: questions.token.clone(),
        })
    }

    /// The same without any secret: what can be had without a PIN, or with one that is typed.
    pub fn without_secrets(questions: &Questions) -> Self {
        Self { clients: Clients::none(), pin: None, token: questions.token.clone() }
    }

    /// The token that was asked for, else the only one of `tokens` that is initialised.
    ///
    /// # Errors
    /// [`Unclear`]; who is told it needs to see the tokens too.
    pub fn choose(&self, tokens: &[TokenInfo]) -> Result<Choice, Unclear> {
        if let Some(name) = &self.token {
            return match TokenInfo::named(tokens, name) {
                Ok(Some(info)) => Ok(Choice { name: name.clone(), info: Some(info.clone()) }),
                // One that does not describe itself is known by its slot only.
                Ok(None) if TokenInfo::is_slot(name) => Ok(Choice { name: name.clone(), info: None }),
                Ok(None) => Err(Unclear::Missing(name.clone())),
                Err(_) => Err(Unclear::Ambiguous(name.clone())),
            };
        }
        let mut initialized = tokens.iter().filter(|token| token.initialized);
        match (initialized.next(), initialized.next()) {
            (Some(only), None) => {
                let names = [only.label.clone(), only.serial.clone(), only.slot_id.to_string()];
                let is_it = |name: &String| matches!(TokenInfo::named(tokens, name), Ok(Some(found)) if found == only);
                let name = names.into_iter().find(is_it).ok_or(Unclear::Several)?;
                Ok(Choice { name, info: Some(only.clone()) })
            }
            (Some(_), Some(_)) => Err(Unclear::Several),
            (None, _) => Err(Unclear::None),
        }
    }

    /// Logs in to a token as the configuration says, or with the PIN of the command line, else with one that is asked for at the
    /// terminal. A PIN comes neither from the command line nor from the environment, which others can read.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn log_in(&self, tokens: &Tokens, choice: &Choice) -> Result<Arc<Token>, Denied> {
        let token = tokens.find(&choice.name).map_err(Denied::Refused)?;
        self.way_into(&token)?.enter(tokens, choice)
    }

    /// How to log in to a token; asks for the PIN where nothing else tells it.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn way_into(&self, token: &Token) -> Result<Way, Denied> {
        Ok(match (self.clients.login(token.info()), &self.pin) {
            ((Login::None, _), _) => Way::Open,
            ((Login::ProtectedPath, _), _) => Way::Typed,
            (_, Some(pin)) => Way::Named(Arc::clone(pin)),
            ((_, Some(kept)), None) => Way::Kept(Arc::clone(kept)),
            ((_, None), None) => Way::Asked(ask_pin(token.info())?),
        })
    }

    /// Takes `pin` for the one of the command line, so that it is not asked for again.
    pub fn remember(&mut self, pin: Zeroizing<Vec<u8>>) {
        self.pin = Some(Arc::new(pin));
    }
}

/// A way into a token. There is no Debug: it holds the PIN.
pub enum Way {
    /// With the PIN that was asked for.
    Asked(Zeroizing<Vec<u8>>),
    /// With the PIN that the configuration names.
    Kept(Arc<Zeroizing<Vec<u8>>>),
    /// With the PIN that the command line names.
    Named(Arc<Zeroizing<Vec<u8>>>),
    /// Without any.
    Open,
    /// With a PIN that is typed at the token.
    Typed,
}

impl Way {
    /// Goes it.
    ///
    /// # Errors
    /// [`Denied::Refused`].
    pub fn enter(&self, tokens: &Tokens, choice: &Choice) -> Result<Arc<Token>, Denied> {
        let pin = match self {
            Self::Open | Self::Typed => {
                let token = tokens.find(&choice.name).map_err(Denied::Refused)?;
                return tokens.open(&token).map(|()| token).map_err(Denied::Refused);
            }
            Self::Asked(pin) => pin.as_slice(),
            Self::Kept(pin) | Self::Named(pin) => pin.as_slice(),
        };
        tokens.admit(&choice.name, &Pin::new(pin)).map_err(Denied::Refused)
    }
}

fn ask_pin(token: &TokenInfo) -> Result<Zeroizing<Vec<u8>>, Denied> {
    let asked = sys::ask_hidden(&format!("PIN of the token {}: ", token.name())).map_err(Denied::NoPin)?;
    asked.ok_or(Denied::NothingTyped)
}

/// Asks something at the terminal that this process belongs to, whatever its standard streams are; the answer is a line.
///
/// # Errors
/// There is no terminal, or it fails.
pub fn ask(question: &str) -> io::Result<String> {
    const LONGEST: u64 = 4096;
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    terminal.write_all(question.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(terminal.take(LONGEST)).read_line(&mut answer)?;
    Ok(answer)
}

/// Becomes whom the configuration names, and sets what the module wants of the environment: before any code of it runs, and before
/// there is another thread.
///
/// # Errors
/// The message is for the operator.
pub fn become_user(config: &Config) -> io::Result<()> {
    config.set_environment();
    config.daemon.identity.as_ref().map_or(Ok(()), sys::become_identity)?;
    sys::forbid_core_dumps()
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ambiguous(name) => write!(
                f,
                "several tokens have the label or serial number '{}'\nhint: --token takes the number of a slot too",
                name.escape_debug()
            ),
            Self::Missing(name) => write!(
                f,
                "there is no token '{}'\nhint: --token takes a label, a serial number or the number of a slot",
                name.escape_debug()
            ),
            Self::None => f.write_str("there is no initialised token\nhint: the vendor's tools make one"),
            Self::Several => {
                f.write_str("there are several tokens\nhint: --token says which one, by label, serial number or slot")
            }
        }
    }
}

impl std::error::Error for Unclear {}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HINT: &str = "hint: --pin-file names a file with it, as does pin-file in [[token]]";
        match self {
            Self::NoPin(why) => write!(f, "the PIN is not known, and no terminal to ask for it: {why}\n{HINT}"),
            Self::NothingTyped => write!(f, "no PIN was typed\n{HINT}"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for Denied {}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(slot_id: u64, label: &str, initialized: bool) -> TokenInfo {
        TokenInfo { slot_id, label: label.into(), serial: "same".into(), initialized, ..TokenInfo::default() }
    }

    fn choose(tokens: &[TokenInfo], wanted: Option<&str>) -> Result<String, Unclear> {
        let questions = Questions { token: wanted.map(str::to_owned), ..Questions::default() };
        let visit = Visit::prepare(&questions, &access::Settings::default()).unwrap();
        visit.choose(tokens).map(|choice| choice.name)
    }

    #[test]
    fn takes_the_only_initialised_token_unless_another_is_asked_for() {
        let tokens = [token(7, "", false), token(8, "one", true)];
        assert_eq!(choose(&tokens, None).as_deref(), Ok("one"));
        assert_eq!(choose(&tokens, Some("7")).as_deref(), Ok("7"));
        assert_eq!(choose(&tokens, Some("two")), Err(Unclear::Missing("two".into())));
        assert_eq!(choose(&tokens, Some("same")).as_deref(), Ok("same"));
        assert_eq!(choose(&tokens[..1], None), Err(Unclear::None));
        let two = [token(1, "a", true), token(2, "b", true)];
        assert_eq!(choose(&two, None), Err(Unclear::Several));
        assert_eq!(choose(&two, Some("same")), Err(Unclear::Ambiguous("same".into())));
    }

    #[test]
    fn names_a_token_so_that_no_other_is_meant() {
        // One that is not initialised does not compete for a name.
        let tokens = [token(7, "twin", false), token(8, "twin", true)];
        assert_eq!(choose(&tokens, None).as_deref(), Ok("twin"));
        // To a slot that shows no token, only the module can say what it holds.
        assert_eq!(choose(&tokens, Some("0x9")).as_deref(), Ok("0x9"));
    }
}
