//! A process that proves one PIN to a token and ends: its login is its own, and disturbs nobody.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::gate::{Pin, Refusal};
use super::login;
use super::module::Module;
use super::slot::{self, TokenInfo};

/// The first word of the command line of such a process; after it come the module, the slot and the serial number. The PIN comes
/// on standard input.
pub const PROVE_PIN: &str = "prove-pin";

/// Exit codes that neither a failing program nor a module's exit handler has.
const RIGHT: u8 = 42;
const WRONG: u8 = 43;
const UNTRIED: u8 = 44;
const FAILED: u8 = 45;
const DOUBTFUL: u8 = 46;

/// How long the process may take: a module's start and one login, over a network.
const PATIENCE: Duration = Duration::from_secs(10);

/// More than any PIN has.
const LONGEST: usize = 4096;

/// What a process found out.
pub(super) enum Proof {
    Right,
    /// The token says so.
    Wrong,
    /// The token says so, or is in trouble.
    Doubtful,
    /// The token said that a wrong one was tried before, so this one was not.
    Untried,
    /// The process failed.
    Unknown(String),
}

/// Starts such processes.
#[derive(Clone, Debug)]
pub(super) struct Prover {
    pub(super) program: PathBuf,
    pub(super) lib_path: PathBuf,
}

impl Prover {
    /// Has a process judge `pin`.
    pub(super) fn prove(&self, token: &TokenInfo, pin: &Pin<'_>) -> Proof {
        match self.run(token, pin) {
            Ok(status) => match status.code().and_then(|code| u8::try_from(code).ok()) {
                Some(RIGHT) => Proof::Right,
                Some(WRONG) => Proof::Wrong,
                Some(DOUBTFUL) => Proof::Doubtful,
                Some(UNTRIED) => Proof::Untried,
                _ => Proof::Unknown(format!("the process that tries it ended: {status}")),
            },
            Err(error) => Proof::Unknown(error.to_string()),
        }
    }

    fn run(&self, token: &TokenInfo, pin: &Pin<'_>) -> io::Result<ExitStatus> {
        let mut child = Command::new(&self.program)
            .arg(PROVE_PIN)
            .arg(&self.lib_path)
            .arg(token.slot_id.to_string())
            .arg(&token.serial)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // What the module has to say about it is for the log, as what it says to the bridge is.
            .stderr(Stdio::inherit())
            .spawn()?;
        // Shorter than what a pipe holds, so that it does not wait for the reader.
        let written = match child.stdin.take() {
            Some(mut pipe) => pipe.write_all(pin.bytes().get(..LONGEST).unwrap_or(pin.bytes())),
            None => Ok(()),
        };
        let ended = await_end(&mut child);
        if !matches!(ended, Ok(Some(_))) {
            let _ = child.kill();
            let _ = child.wait();
        }
        written?;
        ended?.ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "the process that tries it does not end"))
    }
}

fn await_end(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(None)
}

/// The whole of such a process: `args` are those after [`PROVE_PIN`]. Returns its exit code.
pub fn prove_pin(args: &[OsString]) -> u8 {
    let [lib_path, slot, serial] = args else { return FAILED };
    let (Some(slot), Some(serial)) = (slot.to_str().and_then(|slot| slot.parse().ok()), serial.to_str()) else {
        return FAILED;
    };
    let mut pin = Zeroizing::new(Vec::with_capacity(LONGEST.saturating_add(1)));
    match io::stdin().lock().take(LONGEST as u64).read_to_end(&mut pin) {
        Ok(_) => judge(Path::new(lib_path), slot, serial, &Pin::new(&pin)).unwrap_or(FAILED),
        Err(_) => FAILED,
    }
}

fn judge(lib_path: &Path, slot_id: u64, serial: &str, pin: &Pin<'_>) -> Option<u8> {
    let module = Module::load(lib_path).ok()?;
    let inside = module.library.enter().ok()?;
    let slots = slot::scan(&inside).ok()?;
    // Numbers of slots may be a process's own.
    let is_it = |id: u64, info: &Option<TokenInfo>| {
        info.as_ref().map_or(serial.is_empty() && id == slot_id, |info| info.serial == serial)
    };
    let mut found = slots.iter().filter(|(slot, info)| is_it(slot.id(), info));
    let (slot, _) = match (found.next(), found.next()) {
        (Some(only), None) => only,
        _ => slots.iter().find(|(slot, info)| slot.id() == slot_id && is_it(slot_id, info))?,
    };
    let info = slot::describe(&inside, *slot).ok()?;
    if info.user_pin_count_low || info.user_pin_final_try || info.user_pin_locked {
        return Some(UNTRIED);
    }
    let session = inside.pkcs11().open_rw_session(*slot).ok()?;
    match login::log_in(&session, pin, || slot::is_empty(inside.pkcs11(), *slot)) {
        Ok(_) => {
            let _ = session.logout();
            Some(RIGHT)
        }
        Err(Refusal::WrongPin | Refusal::PinLocked) => Some(WRONG),
        Err(Refusal::DoubtfulPin) => Some(DOUBTFUL),
        Err(_) => None,
    }
}
