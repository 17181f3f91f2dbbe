//! What a module needs running beside it for the time of one test: started by a script, ended by it, each process by its id.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Processes that end when this is dropped, or when the test's own process has ended in whatever way: the script waits for its standard
/// input to close.
pub struct Services {
    keeper: Child,
    /// Whether they are in a mount and an IPC namespace of their own.
    apart: bool,
}

/// Around a script, which leaves the ids of what it has started in `ended`, and awaits what they make: of a socket that its process listens
/// on it, as its file is there before that. It talks to the test on descriptor 3, so that what it starts can be silenced as a whole. What is
/// left behind is in the test's directory, and pkcsslotd does not always end when it is asked to: so they are killed.
const BEGIN: &str = "\
set -eu
exec 3>&1 1>services.log 2>&1
ended=
trap 'kill -KILL $ended; wait' EXIT
listens() {
    for inode in $(readlink /proc/$1/fd/* | sed -n 's/^socket:.\\([0-9]*\\).$/\\1/p'); do
        grep -q \" 00010000 .* $inode .*$2\\$\" /proc/net/unix && return
    done
    return 1
}
await() { for turn in $(seq 1000); do \"$@\" && return; sleep 0.03; done; echo \"not within 30 seconds: $*\"; return 1; }
";
const END: &str = "\necho ready >&3\nread -r line || true\n";

impl Services {
    /// Runs `script` in `directory` until it says that it is ready; what it and its processes print goes into a file there.
    pub fn start(script: &str, directory: &Path, environment: &[(&str, OsString)]) -> Services {
        Services::start_by(Command::new("bash"), false, script, directory, environment)
    }

    /// The same in namespaces of its own, in which it may mount what it likes.
    pub fn start_apart(script: &str, directory: &Path) -> Services {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--ipc", "bash"]);
        Services::start_by(command, true, script, directory, &[])
    }

    fn start_by(
        mut command: Command,
        apart: bool,
        script: &str,
        directory: &Path,
        environment: &[(&str, OsString)],
    ) -> Services {
        command.arg("-c").arg(format!("{BEGIN}{script}{END}")).current_dir(directory).envs(environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().expect("bash runs");
        let mut line = String::new();
        let said = BufReader::new(keeper.stdout.take().expect("its output")).read_line(&mut line);
        if said.is_err() || line != "ready\n" {
            let _ = keeper.kill();
            let log = fs::read_to_string(directory.join("services.log")).unwrap_or_default();
            panic!("the services in {} did not start:\n{log}", directory.display());
        }
        Services { keeper, apart }
    }

    /// A command that meets these services.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        if !self.apart {
            return Command::new(program);
        }
        // Into the directory, too, in which the command is started.
        let mut command = Command::new("bash");
        let line = "exec nsenter --mount --ipc --target \"$0\" --wdns=\"$PWD\" -- \"$@\"";
        command.args(["-c", line, &self.keeper.id().to_string()]).arg(program);
        command
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
