//! The configuration file: it is judged in full, whatever it is, and every problem names a line that exists.
#![no_main]

use std::path::Path;

use cascade_hsm_bridge::config::{self, Overrides};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    // Only text gets as far as this.
    let Ok(text) = std::str::from_utf8(data) else { return Corpus::Reject };
    let judged = config::judge(Path::new("config.toml"), text, &Overrides::default(), None);
    let lines = text.split('\n').count();
    for problem in judged.problems.iter().chain(&judged.warnings) {
        assert!(!problem.what.is_empty());
        let shown = problem.to_string();
        assert!(!shown.contains(|it: char| it.is_control() && it != '\n'), "{shown:?}");
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "line {:?} of {lines}", problem.line);
    }
    match judged.sound() {
        Ok(config) => {
            assert!(!config.pkcs11.lib_path.as_os_str().is_empty());
            assert!(config.pkcs11.max_sessions > 0 && (1..=64).contains(&config.pkcs11.id_length));
            assert!(config.server.max_connections > 0 && config.server.max_request_size > 0);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    Corpus::Keep
});
