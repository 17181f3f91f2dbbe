//! The command `keys`: what is on a token as clients see it, and the end of what nobody needs.
#![forbid(unsafe_code)]

mod cascade;
mod destroy;
mod output;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use log::warn;

use crate::bridge::PublicKeys;
use crate::bridge::inventory::{self, Named, Pair};
use crate::config::{self, Config, Overrides};
use crate::console::{self, Questions, Visit};
use crate::pkcs11::{Module, Token, TokenInfo, Tokens, within};
use crate::sys;

/// What of the keys to tell, and what to do with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Print the arguments with which Cascade imports them from the server of this name.
    pub cascade: Option<String>,
    /// Destroy them.
    pub destroy: bool,
    /// Only these.
    pub named: Vec<Named>,
    /// Only those of which a half is missing.
    pub orphans: bool,
    /// Only those that still have the name that a new key gets.
    pub unused: bool,
    /// Do not ask before destroying.
    pub yes: bool,
}

/// Looks at a token's keys as `wishes` say, with the configuration file at `path`.
pub fn run(path: &Path, overrides: &Overrides, questions: &Questions, wishes: &Wishes) -> ExitCode {
    match look(path, overrides, questions, wishes) {
        Ok(code) => code,
        Err(why) => complain(&why),
    }
}

fn look(path: &Path, overrides: &Overrides, questions: &Questions, wishes: &Wishes) -> Result<ExitCode, String> {
    let judged = config::read(path, overrides).map_err(text)?;
    judged.log_warnings();
    let config = judged.sound().map_err(text)?;
    let visit = Visit::prepare(questions, &config.access).map_err(text)?;
    console::become_user(&config).map_err(text)?;
    let files = public_keys(&config)?;
    let module = started(&config, "C_Initialize, or loading it,", || Module::load(&config.pkcs11.lib_path))?;
    let tokens = Tokens::new(module.map_err(text)?, &config.pkcs11);
    let present = started(&config, "C_GetSlotList or C_GetTokenInfo", || tokens.present())?;
    let outcome = present.map_err(text).and_then(|present| enter(&tokens, &present, &visit)).and_then(|token| {
        let pairs = inventory::pairs(&token, &files).map_err(text)?;
        let chosen = choose(pairs, wishes)?;
        tell(&token, &chosen, questions, wishes)
    });
    tokens.finalize();
    let code = outcome.unwrap_or_else(|why| complain(&why));
    // A module's exit handlers must not have the last word.
    sys::leave(i32::from(code != ExitCode::SUCCESS))
}

/// The public keys of the configured directory; what cannot be used there is told, and does not matter to the rest.
fn public_keys(config: &Config) -> Result<PublicKeys, String> {
    let Some(directory) = &config.bridge.public_keys else { return Ok(PublicKeys::default()) };
    let (keys, odd) = PublicKeys::load(directory).map_err(text)?;
    odd.iter().for_each(|why| warn!("{why}"));
    Ok(keys)
}

/// What the module is asked before anybody is, which is not waited for without end.
fn started<T>(config: &Config, what: &str, work: impl FnOnce() -> T) -> Result<T, String> {
    let pkcs11 = &config.pkcs11;
    let tell = |why: &str| {
        complain(why);
    };
    within(pkcs11.start_timeout(), &pkcs11.lib_path, what, tell, work).map_err(text)
}

fn enter(tokens: &Tokens, present: &[TokenInfo], visit: &Visit) -> Result<Arc<Token>, String> {
    let choice = visit.choose(present).map_err(|unclear| {
        let initialized = present.iter().filter(|token| token.initialized).map(TokenInfo::name);
        let names: Vec<_> = initialized.collect();
        let there = if names.is_empty() { String::new() } else { format!("\nhint: there are {}", names.join(", ")) };
        format!("{unclear}{there}")
    })?;
    visit.log_in(tokens, &choice).map_err(text)
}

/// Those that are asked for. A name that means none is a mistake, which had better be known before anything is done.
fn choose(pairs: Vec<Pair>, wishes: &Wishes) -> Result<Vec<Pair>, String> {
    for named in &wishes.named {
        let is_half = |pair: &Pair| match named.class {
            None => true,
            Some(_) => {
                let wanted = Some(named.identifier());
                pair.private.iter().chain(&pair.public).any(|half| half.identifier == wanted)
            }
        };
        if !pairs.iter().any(|pair| pair.id == named.id && is_half(pair)) {
            return Err(format!("there is no key {} on the token", named.identifier()));
        }
    }
    let is_named = |pair: &Pair| wishes.named.is_empty() || wishes.named.iter().any(|named| named.id == pair.id);
    let is_kind = |pair: &Pair| {
        let any = !wishes.orphans && !wishes.unused;
        any || wishes.orphans && pair.is_orphan() || wishes.unused && pair.has_first_name()
    };
    Ok(pairs.into_iter().filter(|pair| is_named(pair) && is_kind(pair)).collect())
}

fn tell(token: &Token, pairs: &[Pair], questions: &Questions, wishes: &Wishes) -> Result<ExitCode, String> {
    if wishes.destroy {
        return destroy::run(token, pairs, wishes);
    }
    let text = match (&wishes.cascade, questions.json) {
        (server, true) => output::json(token.info(), pairs, server.as_deref()),
        (Some(server), false) => cascade::lines(pairs, server),
        (None, false) => output::lines(token.info(), pairs),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints to standard output. A reader that has gone away, as in a pipe to `head`, is no failure.
fn print(text: &str) -> Result<(), String> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot write to standard output: {why}")),
        _ => Ok(()),
    }
}

/// Prints to standard error, where there is nobody left to tell if that fails.
fn complain(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "{why}");
    ExitCode::FAILURE
}

fn text(why: impl Display) -> String {
    why.to_string()
}
