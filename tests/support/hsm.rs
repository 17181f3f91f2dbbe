//! The PKCS#11 modules that the tests can be run on, and how each is brought up for one test: in a directory of the test's own, with
//! services of its own, and nothing of the system's touched. `HSM` names one of them; without it, it is SoftHSM.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fmt};

use super::services::Services;

/// A PIN of the security officer that appears nowhere else, so that logs can be searched for it.
pub const SO_PIN: &str = "pin-8204";

/// The SO PIN of an openCryptoki token that nobody has initialised yet.
const FIRST_SO_PIN: &str = "87654321";

/// Slots of the modules that are told beforehand how many there are.
const SLOTS: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hsm {
    SoftHsm2,
    /// pkcs11-spy in front of SoftHSM.
    Spy,
    /// SoftHSM in another process, behind a socket.
    P11Kit,
    Kryoptic,
    OpenCryptoki,
    /// tpm2-pkcs11, with a TPM in software.
    Tpm2,
}

/// What a process needs to see the tokens of one test.
pub struct Place {
    pub environment: Vec<(&'static str, OsString)>,
    pub services: Option<Services>,
}

impl Hsm {
    pub const ALL: [Hsm; 6] = [Hsm::SoftHsm2, Hsm::Spy, Hsm::P11Kit, Hsm::Kryoptic, Hsm::OpenCryptoki, Hsm::Tpm2];

    /// The one that this run is about.
    pub fn chosen() -> Hsm {
        let Some(name) = env::var_os("HSM") else { return Hsm::SoftHsm2 };
        let found = Hsm::ALL.into_iter().find(|hsm| *hsm.name() == name);
        found.unwrap_or_else(|| panic!("HSM={name:?} is none of {:?}", Hsm::ALL.map(Hsm::name)))
    }

    pub fn name(self) -> &'static str {
        match self {
            Hsm::SoftHsm2 => "softhsm",
            Hsm::Spy => "spy",
            Hsm::P11Kit => "p11kit",
            Hsm::Kryoptic => "kryoptic",
            Hsm::OpenCryptoki => "opencryptoki",
            Hsm::Tpm2 => "tpm2",
        }
    }

    /// The module's library on this machine.
    pub fn library(self) -> PathBuf {
        self.find().unwrap_or_else(|| panic!("the library of {self} is not installed (make deps, make interop)"))
    }

    /// What a spy of the test's own has behind it, which cannot be the spy itself.
    pub fn behind_spy(self) -> PathBuf {
        if self == Hsm::Spy { Hsm::SoftHsm2.library() } else { self.library() }
    }

    fn find(self) -> Option<PathBuf> {
        let names: &[&str] = match self {
            Hsm::SoftHsm2 => &["softhsm/libsofthsm2.so", "pkcs11/libsofthsm2.so"],
            Hsm::Spy => &["pkcs11-spy.so", "pkcs11/pkcs11-spy.so"],
            Hsm::P11Kit => &["pkcs11/p11-kit-client.so"],
            Hsm::OpenCryptoki => &["pkcs11/libopencryptoki.so", "opencryptoki/libopencryptoki.so"],
            Hsm::Tpm2 => &["pkcs11/libtpm2_pkcs11.so", "libtpm2_pkcs11.so.1"],
            // Built by tests/kryoptic. This file belongs to several packages, all of them below the project's directory.
            Hsm::Kryoptic => {
                let places = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
                let name = "tests/kryoptic/target/debug/libkryoptic_pkcs11.so";
                return places.map(|place| place.join(name)).find(|path| path.exists());
            }
        };
        let architecture = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
        let places = ["/usr/lib", architecture.as_str(), "/usr/lib64", "/usr/local/lib"];
        let mut paths = places.iter().flat_map(|place| names.iter().map(|name| Path::new(place).join(name)));
        paths.find(|path| path.exists())
    }

    /// What this machine lacks to bring the module up, if anything.
    pub fn obstacle(self) -> Option<String> {
        if self.find().is_none() {
            return Some("its library is not installed".to_string());
        }
        let tools: &[&str] = match self {
            Hsm::SoftHsm2 | Hsm::Spy => &["softhsm2-util"],
            Hsm::P11Kit => &["softhsm2-util", "p11-kit"],
            Hsm::Kryoptic => &[],
            Hsm::OpenCryptoki => &["pkcsslotd", "unshare", "nsenter"],
            Hsm::Tpm2 => &["swtpm", "dbus-daemon", "tpm2-abrmd", "tpm2_ptool"],
        };
        let path = env::var_os("PATH").unwrap_or_default();
        let is_there = |tool: &&&str| env::split_paths(&path).any(|place| place.join(tool).exists());
        if let Some(tool) = tools.iter().find(|tool| !is_there(tool)) {
            return Some(format!("there is no {tool}"));
        }
        // Its configuration and tokens are at fixed places, which a test overlays for itself.
        let overlays = || Command::new("unshare").args(["--mount", "--ipc", "true"]).output();
        if self == Hsm::OpenCryptoki && !overlays().is_ok_and(|output| output.status.success()) {
            return Some("only root can give it directories of its own".to_string());
        }
        None
    }

    /// Whether this is not the module that a test is about, which then is why it is left out.
    pub fn is_not(self, other: Hsm, why: &str) -> bool {
        skipped(self != other, format!("not {other}: {why}"))
    }

    /// How many key pairs a process may make, if the module keeps what it makes in places of which there are only so many: each half takes
    /// one until the process ends.
    pub fn room(self) -> Option<usize> {
        (self == Hsm::Tpm2).then_some(TRANSIENTS / 2 - 4)
    }

    /// Prepares `directory` for tokens.
    pub fn set_up(self, directory: &Path) -> Place {
        let store = directory.join("tokens");
        fs::create_dir(&store).expect("a directory for the tokens");
        let conf = directory.join("conf");
        let numbered =
            |one: &dyn Fn(u32) -> String| (0..SLOTS).map(|number| one(self.slot(number))).collect::<String>();
        let mut environment: Vec<(&'static str, OsString)> = Vec::new();
        let mut services = None;
        match self {
            Hsm::SoftHsm2 | Hsm::Spy | Hsm::P11Kit => {
                let text = format!(
                    "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
                    store.display()
                );
                fs::write(&conf, text).expect("the configuration of SoftHSM");
                environment.push(("SOFTHSM2_CONF", conf.into()));
            }
            Hsm::Kryoptic => {
                let slot = |slot| {
                    let file = store.join(format!("{slot}.sql"));
                    format!("[[slots]]\nslot = {slot}\ndbtype = \"sqlite\"\ndbargs = {file:?}\n")
                };
                fs::write(&conf, numbered(&slot)).expect("the configuration of kryoptic");
                environment.push(("KRYOPTIC_CONF", conf.into()));
            }
            Hsm::OpenCryptoki => {
                let slot = |slot| format!("slot {slot}\n{{\nstdll = libpkcs11_sw.so\ntokname = token{slot}\n}}\n");
                fs::create_dir(&conf).expect("a directory for the configuration");
                let text = format!("version opencryptoki-3.8\n{}", numbered(&slot));
                fs::write(conf.join("opencryptoki.conf"), text).expect("the configuration of openCryptoki");
                services = Some(Services::start_apart(OPENCRYPTOKI, directory));
            }
            Hsm::Tpm2 => {
                environment.push(("DBUS_SESSION_BUS_ADDRESS", at(&directory.join("bus"))));
                environment.push(("TPM2_PKCS11_STORE", store.into()));
                environment.push(("TPM2_PKCS11_TCTI", "tabrmd:bus_type=session".into()));
                environment.push(("TPM2TOOLS_TCTI", "tabrmd:bus_type=session".into()));
                let script = TPM2.replace("TRANSIENTS", &TRANSIENTS.to_string());
                services = Some(Services::start(&script, directory, &environment));
            }
        }
        if self == Hsm::Spy {
            environment.push(("PKCS11SPY", Hsm::SoftHsm2.library().into()));
            environment.push(("PKCS11SPY_OUTPUT", directory.join("calls").into()));
        }
        if self == Hsm::P11Kit {
            let provider = [environment.clone(), vec![("PROVIDER", Hsm::SoftHsm2.library().into())]].concat();
            services = Some(Services::start(P11_KIT, directory, &provider));
            environment.push(("P11_KIT_SERVER_ADDRESS", at(&directory.join("socket"))));
        }
        Place { environment, services }
    }

    /// Makes the token with that number, counted from 0. `tool` gives a command that sees the tokens. The error says why it is refused.
    pub fn add(self, number: u32, label: &str, pin: &str, tool: impl Fn(&str) -> Command) -> Result<(), String> {
        match self {
            Hsm::SoftHsm2 | Hsm::Spy | Hsm::P11Kit => {
                let mut command = tool("softhsm2-util");
                command.args(["--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", SO_PIN]);
                attempt(&mut command).map(drop)
            }
            Hsm::Tpm2 => {
                let mut command = tool("tpm2_ptool");
                command.args(["addtoken", "--pid", "1", "--label", label, "--userpin", pin, "--sopin", SO_PIN]);
                attempt(&mut command).map(drop)
            }
            Hsm::Kryoptic | Hsm::OpenCryptoki => {
                let first = if self == Hsm::OpenCryptoki { FIRST_SO_PIN } else { SO_PIN };
                self.initialise(self.slot(number).into(), label, first, pin, tool)
            }
        }
    }

    /// Initialises the token in a slot through the module itself; the error says why that is refused.
    pub fn initialise(
        self,
        slot: u64,
        label: &str,
        so_pin: &str,
        pin: &str,
        tool: impl Fn(&str) -> Command,
    ) -> Result<(), String> {
        let slot = slot.to_string();
        let pkcs11_tool = |arguments: &[&str]| {
            let mut command = tool("pkcs11-tool");
            command.arg("--module").arg(self.library()).args(["--slot", &slot]).args(arguments);
            attempt(&mut command)
        };
        let officer = ["--login", "--login-type", "so", "--so-pin"];
        pkcs11_tool(&["--init-token", "--label", label, "--so-pin", so_pin])?;
        if so_pin != SO_PIN {
            pkcs11_tool(&[&officer[..], &[so_pin, "--change-pin", "--new-pin", SO_PIN]].concat())?;
        }
        pkcs11_tool(&[&officer[..], &[SO_PIN, "--init-pin", "--pin", pin]].concat())?;
        Ok(())
    }

    /// The slots of modules that are told which they have. Odd numbers, as they may be searched for.
    fn slot(self, number: u32) -> u32 {
        517 + number
    }
}

impl fmt::Display for Hsm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The address of a Unix socket.
fn at(path: &Path) -> OsString {
    format!("unix:path={}", path.display()).into()
}

/// A server of SoftHSM's tokens; it starts a process for each that connects.
const P11_KIT: &str = "\
p11-kit server --foreground --provider \"$PROVIDER\" --name \"$PWD/socket\" pkcs11: &
ended=$!
await listens $ended socket
";

/// The most that the broker allows.
const TRANSIENTS: usize = 100;

/// A TPM, and in front of it, on a bus of their own, the broker without which it runs out of places for objects.
const TPM2: &str = "\
mkdir state
swtpm socket --tpm2 --tpmstate dir=state --server type=unixio,path=\"$PWD/tpm\" --ctrl type=unixio,path=tpm.ctrl --flags not-need-init,startup-clear &
ended=$!
dbus-daemon --session --address=\"$DBUS_SESSION_BUS_ADDRESS\" --nofork --nopidfile &
ended=\"$ended $!\"
await listens $! bus
await listens ${ended% *} tpm
tpm2-abrmd --allow-root --session --tcti=swtpm:path=\"$PWD/tpm\" --max-connections=100 --max-sessions=4 --max-transients=TRANSIENTS &
ended=\"$! $ended\"
await tpm2_getrandom --hex 1
tpm2_ptool init
";

/// The slot daemon, which looks at fixed places: they are overlaid for it and for those who enter its namespaces.
const OPENCRYPTOKI: &str = "\
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs none /dev/shm
for slot in $(sed -n 's/^tokname = //p' conf/opencryptoki.conf); do mkdir -p tokens/$slot/TOK_OBJ /run/lock/opencryptoki/$slot; done
mount --bind conf /etc/opencryptoki
mount --bind tokens /var/lib/opencryptoki
chgrp -R pkcs11 tokens /run/lock/opencryptoki
chmod -R ug=rwX,o= tokens /run/lock/opencryptoki
pkcsslotd -f &
ended=$!
await listens $ended pkcsslotd.socket
";

/// Runs a tool that has to succeed, and returns what it prints.
pub fn run(command: &mut Command) -> String {
    attempt(command).unwrap_or_else(|why| panic!("{why}"))
}

/// The same for one that need not; its arguments stay out of the message, as they may hold a PIN.
pub fn attempt(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{name}: {error}"));
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    let why = || format!("{name}: {status}\n{stdout}{}", String::from_utf8_lossy(&stderr));
    if status.success() { Ok(stdout) } else { Err(why()) }
}

/// Whether a test is left out; it says so in the words that `make interop` looks for, and returns.
pub fn skipped(is_so: bool, why: impl fmt::Display) -> bool {
    if is_so {
        println!("skipped: {why}");
    }
    is_so
}

/// Whether a part of a test is left out, which goes on after it and is no less passed.
pub fn skipped_in_part(is_so: bool, why: impl fmt::Display) -> bool {
    if is_so {
        println!("skipped in part: {why}");
    }
    is_so
}
