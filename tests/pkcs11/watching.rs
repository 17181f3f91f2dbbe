//! What takes long without anything hanging, and what hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cascade_hsm_bridge::pkcs11::{Class, Filter, LoginKind, Match, Module, Policy, Settings, Tokens, on_overdue};

use crate::bench::{Bench, PIN, admit, make, on_faulty};

/// What takes long takes this many milliseconds, and is not to be taken to hang for half of it.
const LONG: u64 = 7000;
const MOST: Duration = Duration::from_millis(LONG / 2);

/// A second for each call.
fn impatient(bench: &Bench) -> Settings {
    let second = Duration::from_secs(1);
    Settings { call_timeout: second, generate_timeout: second, ..Settings::new(bench.module.clone()) }
}

/// For how long at most nobody was taken to be answered during `work`.
fn silence(tokens: &Tokens, work: impl FnOnce() + Send) -> Duration {
    thread::scope(|scope| {
        let works = scope.spawn(work);
        let mut longest = Duration::ZERO;
        while !works.is_finished() {
            longest = longest.max(tokens.stuck_for().unwrap_or_default());
            thread::sleep(Duration::from_millis(20));
        }
        works.join().unwrap();
        longest
    })
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn slow(bench: &Bench, function: &str) -> String {
    format!("[[fault]]\nfunctions = {function:?}\narm = {}\ndelay-ms = {LONG}\nnext = 1\n", bench.next_event())
}

#[test]
fn who_types_a_pin_may_take_his_time() {
    on_faulty("watching::who_types_a_pin_may_take_his_time", |bench| {
        let pad = format!("[token]\nown-pin = {PIN:?}\nset-flags = [\"CKF_PROTECTED_AUTHENTICATION_PATH\"]\n");
        bench.play(&pad);
        let policies = vec![(Match::default(), Policy { login: Some(LoginKind::ProtectedPath), ..Policy::default() })];
        let generate_timeout = Duration::from_secs(30);
        let tokens = bench.tokens_as(&Settings { policies, generate_timeout, serialize: true, ..impatient(bench) });
        let token = tokens.find("one").unwrap();
        // Nor is it silence where others wait for that.
        let before = bench.count("C_Login");
        bench.play(&format!("{pad}{}", slow(bench, "C_Login")));
        let silent = silence(&tokens, || {
            thread::scope(|scope| {
                scope.spawn(|| tokens.open(&token).unwrap());
                until("somebody types", || bench.count("C_Login") > before);
                token.random(8).unwrap();
            });
        });
        assert!(silent < MOST, "{silent:?}");
        // It is away, and back.
        bench.play(&format!("{pad}away = true\n"));
        assert!(token.random(8).is_err());
        bench.play(&format!("{pad}{}", slow(bench, "C_Login")));
        let silent = silence(&tokens, || until("it is back", || token.random(8).is_ok()));
        assert!(silent < MOST, "{silent:?}");
        // It has logged out, and a client finds that out, who is told in time all the same.
        bench.happen_with("logout", &format!("{pad}{}", slow(bench, "C_Login")));
        let rescued = Arc::new(AtomicUsize::new(0));
        let silent = silence(&tokens, || {
            let told = Arc::clone(&rescued);
            let _rescue = on_overdue(move |_| {
                told.fetch_add(1, Ordering::SeqCst);
            });
            drop(token.label(Class::PrivateKey, b"nobody"));
        });
        assert!(silent < MOST, "{silent:?}");
        assert_eq!(rescued.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_pad_that_never_returns_is_found_out_and_the_client_told() {
    on_faulty("watching::a_pad_that_never_returns_is_found_out_and_the_client_told", |bench| {
        let pad = format!("[token]\nown-pin = {PIN:?}\nset-flags = [\"CKF_PROTECTED_AUTHENTICATION_PATH\"]\n");
        bench.play(&format!("{pad}[[fault]]\nfunctions = \"C_Login\"\nhang = true\nnext = 1\n"));
        let policies = vec![(Match::default(), Policy { login: Some(LoginKind::ProtectedPath), ..Policy::default() })];
        let tokens = bench.tokens_as(&Settings { policies, ..impatient(bench) });
        let token = tokens.find("one").unwrap();
        let rescued = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                let told = Arc::clone(&rescued);
                let _rescue = on_overdue(move |_| {
                    told.fetch_add(1, Ordering::SeqCst);
                });
                tokens.open(&token).unwrap();
            });
            until("the client is told", || rescued.load(Ordering::SeqCst) == 1);
            until("it is found out", || tokens.stuck_for().is_some_and(|stuck| stuck > Duration::from_secs(1)));
            bench.play(&pad);
        });
    });
}

#[test]
fn a_module_may_look_for_its_hsm_for_a_while_but_not_for_ever() {
    on_faulty("watching::a_module_may_look_for_its_hsm_for_a_while_but_not_for_ever", |bench| {
        let settings = Settings { generate_timeout: Duration::from_secs(10), ..impatient(bench) };
        let tokens = bench.tokens_as(&settings);
        let token = admit(&tokens, "one", PIN).unwrap();
        bench.happen_with("break", &slow(bench, "C_Initialize"));
        let silent = silence(&tokens, || drop(token.random(8)));
        assert!(silent < MOST, "{silent:?}");
        assert_eq!(bench.count("C_Initialize"), 2);
        drop((token, tokens));
        // Three times as long as a call may take.
        let tokens = Tokens::new(Module::load(&bench.module).unwrap(), &impatient(bench));
        let token = admit(&tokens, "one", PIN).unwrap();
        bench.happen_with("break", "[[fault]]\nfunctions = \"C_Initialize\"\nhang = true\nnext = 1\n");
        thread::scope(|scope| {
            scope.spawn(|| drop(token.random(8)));
            until("it is found out", || tokens.stuck_for().is_some_and(|stuck| stuck > Duration::from_secs(1)));
            bench.play("");
        });
    });
}

#[test]
fn a_long_list_keeps_others_waiting_but_is_no_silence() {
    on_faulty("watching::a_long_list_keeps_others_waiting_but_is_no_silence", |bench| {
        let tokens = bench.tokens_as(&Settings { serialize: true, ..impatient(bench) });
        let token = admit(&tokens, "one", PIN).unwrap();
        for _ in 0..4 {
            make(&token, bench.kind()).unwrap();
        }
        bench.play(&format!("[[fault]]\nfunctions = \"C_GetAttributeValue\"\ndelay-ms = {}\n", LONG / 16));
        let silent = silence(&tokens, || assert_eq!(token.list(&Filter::default()).unwrap().len(), 8));
        assert!(silent < MOST, "{silent:?}");
    });
}
