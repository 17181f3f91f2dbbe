//! The limit of the token: the same operations straight through PKCS#11, in a process of their own, one session for each thread.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use crate::samples::Slice;
use crate::support::Token;

/// What the token does, with the key of the CKA_ID that follows in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Ecdsa256(String),
    Ecdsa384(String),
    Eddsa(String),
    /// The attributes of a public key that tell its value.
    Attributes(String),
    /// A P-256 key pair, destroyed afterwards.
    Generate,
    Rsa(String),
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, id) = self.words();
        write!(f, "{word} {id}")
    }
}

impl Operation {
    fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Ecdsa256(id) => ("ecdsa-256", id),
            Self::Ecdsa384(id) => ("ecdsa-384", id),
            Self::Eddsa(id) => ("eddsa", id),
            Self::Attributes(id) => ("attributes", id),
            Self::Generate => ("generate", "00"),
            Self::Rsa(id) => ("rsa", id),
        }
    }
}

/// The process that calls the token.
pub struct Direct {
    /// From its start until C_Initialize and a look at the slots had returned.
    pub started: Duration,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Direct {
    pub fn start(module: &Path, token: &Token, environment: &[(&str, &Path)]) -> Direct {
        let since = Instant::now();
        let mut child = token
            .command(std::env::current_exe().expect("this program"))
            .arg("direct-worker")
            .arg(module)
            .args([&token.label, &token.pin])
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the worker starts");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut direct = Direct { started: Duration::ZERO, child, input, output };
        assert_eq!(direct.line(), "initialized");
        direct.started = since.elapsed();
        direct
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has so many threads do the operation over and over for so long.
    pub fn run(&mut self, operation: &Operation, threads: usize, duration: Duration) -> Slice {
        writeln!(self.input, "{operation} {threads} {}", duration.as_nanos()).expect("the worker listens");
        let line = self.line();
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().expect("a number"));
        let mut number = || numbers.next().expect("two numbers");
        let (elapsed, count) = (Duration::from_nanos(number()), number());
        let mut bytes = vec![0; usize::try_from(count).expect("memory") * 4];
        self.output.read_exact(&mut bytes).expect("the samples");
        let times = bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four"))).collect();
        Slice { elapsed, times, errors: 0 }
    }

    /// Makes so many P-256 key pairs, whose CKA_IDs [`numbered_id`] tells.
    pub fn fill(&mut self, count: u64) {
        writeln!(self.input, "fill 00 1 {count}").expect("the worker listens");
        assert_eq!(self.line(), format!("0 {count}"));
        let mut times = vec![0; usize::try_from(count).expect("memory") * 4];
        self.output.read_exact(&mut times).expect("the samples");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the worker answers");
        line.trim_end().to_owned()
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other side: does what the lines of standard input say.
pub fn work(module: &Path, label: &str, pin: &str) -> io::Result<()> {
    let (pkcs11, slot) = open(module, label);
    println!("initialized");
    let mut sessions: Vec<Session> = Vec::new();
    for line in io::stdin().lines() {
        let line = line?;
        let words: Vec<_> = line.split(' ').collect();
        let [operation, id, threads, duration] = words.as_slice() else { panic!("{line}") };
        let id = bytes(id);
        let duration = Duration::from_nanos(duration.parse().expect("a number"));
        let threads: usize = threads.parse().expect("a number");
        while sessions.len() < threads {
            sessions.push(match sessions.is_empty() {
                true => log_in(&pkcs11, slot, pin),
                false => pkcs11.open_rw_session(slot).expect("a session"),
            });
        }
        let slice = side_by_side(&mut sessions[..threads], operation, &id, duration);
        let mut output = io::stdout().lock();
        writeln!(output, "{} {}", slice.elapsed.as_nanos(), slice.times.len())?;
        let bytes: Vec<u8> = slice.times.iter().flat_map(|time| time.to_le_bytes()).collect();
        output.write_all(&bytes)?;
        output.flush()?;
    }
    Ok(())
}

/// The module and the slot with the token.
pub fn open(module: &Path, label: &str) -> (Pkcs11, Slot) {
    let pkcs11 = Pkcs11::new(module).expect("the module");
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).expect("C_Initialize");
    let slots = pkcs11.get_slots_with_token().expect("slots");
    let is_it = |slot: &Slot| pkcs11.get_token_info(*slot).is_ok_and(|info| info.label().trim_end() == label);
    let slot = slots.into_iter().find(is_it).expect("the token");
    (pkcs11, slot)
}

/// The first session, which logs all of them in.
pub fn log_in(pkcs11: &Pkcs11, slot: Slot, pin: &str) -> Session {
    let session = pkcs11.open_rw_session(slot).expect("a session");
    session.login(UserType::User, Some(&AuthPin::new(pin.into()))).expect("the PIN");
    session
}

/// What hexadecimal digits tell.
pub fn bytes(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hexadecimal");
    (0..digits.len() / 2).map(byte).collect()
}

fn side_by_side(sessions: &mut [Session], operation: &str, id: &[u8], duration: Duration) -> Slice {
    let ready = Barrier::new(sessions.len());
    let slices = std::thread::scope(|scope| {
        let ready = &ready;
        let work = |session| scope.spawn(move || repeat(session, operation, id, duration, ready));
        let threads: Vec<_> = sessions.iter_mut().map(work).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that works")).collect::<Vec<_>>()
    });
    Slice::side_by_side(slices)
}

fn repeat(session: &mut Session, operation: &str, id: &[u8], duration: Duration, ready: &Barrier) -> Slice {
    let signer = signer(session, operation, id);
    ready.wait();
    match (signer, operation) {
        (Some(sign), _) => Slice::repeat(duration, sign),
        (None, "attributes") => {
            let key = find(session, ObjectClass::PUBLIC_KEY, id);
            let wanted = [AttributeType::EcParams, AttributeType::EcPoint];
            Slice::repeat(duration, || session.get_attributes(key, &wanted).is_ok())
        }
        (None, "generate") => generate(session, duration),
        (None, "fill") => fill(session, u64::try_from(duration.as_nanos()).expect("a number")),
        (None, _) => panic!("there is no operation {operation}"),
    }
}

/// Makes a signature and says whether it was made, if that is the operation.
pub fn signer<'s>(session: &'s Session, operation: &str, id: &[u8]) -> Option<impl FnMut() -> bool + use<'s>> {
    let (mechanism, len) = match operation {
        "ecdsa-256" => (Mechanism::Ecdsa, 32),
        "ecdsa-384" => (Mechanism::Ecdsa, 48),
        "eddsa" => (Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)), 64),
        "rsa" => (Mechanism::Sha256RsaPkcs, 64),
        _ => return None,
    };
    let key = find(session, ObjectClass::PRIVATE_KEY, id);
    // The digest is made before: what is measured is the token.
    Some(move || session.sign(&mechanism, key, &[0x5a; 64][..len]).map(drop).is_ok())
}

fn find(session: &Session, class: ObjectClass, id: &[u8]) -> ObjectHandle {
    session.find_objects(&[Attribute::Class(class), Attribute::Id(id.to_vec())]).expect("a search")[0]
}

/// Makes key pairs for so long, and destroys them.
fn generate(session: &Session, duration: Duration) -> Slice {
    let mut made = Vec::new();
    let slice = Slice::repeat(duration, || {
        let pair = make(session, &[b"made", &made.len().to_be_bytes()[..]].concat());
        pair.map(|(public, private)| made.extend([public, private])).is_ok()
    });
    made.into_iter().for_each(|object| session.destroy_object(object).expect("an object of ours"));
    slice
}

fn fill(session: &Session, count: u64) -> Slice {
    for number in 0..count {
        make(session, &numbered_id(number)).expect("a key pair");
    }
    Slice { times: vec![0; usize::try_from(count).expect("memory")], ..Slice::default() }
}

/// The CKA_ID of one of many.
pub fn numbered_id(number: u64) -> Vec<u8> {
    [b"numbered".as_slice(), &number.to_be_bytes()].concat()
}

fn make(session: &Session, id: &[u8]) -> cryptoki::error::Result<(ObjectHandle, ObjectHandle)> {
    const P_256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let common = [Attribute::Token(true), Attribute::Id(id.to_vec())];
    let public = [&common[..], &[Attribute::EcParams(P_256.to_vec()), Attribute::Verify(true)]].concat();
    let private =
        [&common[..], &[Attribute::Private(true), Attribute::Sensitive(true), Attribute::Sign(true)]].concat();
    session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
}
