//! Who gets in, and who does not: the program itself, told apart friend and stranger.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Instant;

use support::bridge::Options;
use support::message::Item;
use support::spy::Spy;
use support::tags::{operation, reason};
use support::{Bridge, Client, Token};

fn random() -> Item {
    Item::new(operation::LOCATE, vec![])
}

/// Tries so many different wrong PINs, and holds that all get the one answer.
fn guess(client: &mut Client, label: &str, guesses: usize) {
    for number in 0..guesses {
        client.login = Some((label.to_string(), format!("guess-{number}")));
        let answer = client.call(random());
        answer.is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
        assert_eq!(answer.message.as_deref(), Some("username or password is not right"));
    }
}

#[test]
fn a_flood_of_wrong_pins_disturbs_nobody_else_and_is_told_once() {
    let token = Token::create();
    let spy = Spy::new();
    let bridge = Bridge::start_with(&token, spy.options());
    let mut good = Client::connect(&bridge, &token);
    good.call(random()).payload();
    let before = spy.calls("C_Login");
    let mut stranger = Client::connect(&bridge, &token);
    let since = Instant::now();
    for _ in 0..20 {
        guess(&mut stranger, &token.label, 100);
        // On the connection that has proved itself, from the same address.
        good.call(random()).payload();
    }
    assert_eq!(spy.calls("C_Login"), before, "a wrong PIN reached the token");
    // Nobody was made to wait.
    assert!(since.elapsed().as_secs() < 30);
    let (_, log) = bridge.stop();
    assert!(log.matches("login refused").count() <= 2, "{log}");
}

#[test]
fn a_stranger_who_guesses_is_not_judged_while_others_are() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return println!("skipped: this machine has no second loopback address");
    }
    let token = Token::create();
    let mut bridge = Bridge::start_with(&token, Options { address: Some("[::]:0"), ..Options::default() });
    let port = bridge.address.port();
    bridge.address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stranger = Client::connect(&bridge, &token);
    guess(&mut stranger, &token.label, 12);
    // Now not even the right one is.
    stranger.login = Some((token.label.clone(), token.pin.clone()));
    stranger.call(random()).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    bridge.address = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    Client::connect(&bridge, &token).call(random()).payload();
}

#[test]
fn wrong_pins_reach_the_token_a_few_times_only_before_the_first_right_one() {
    let token = Token::create();
    let spy = Spy::new();
    let bridge = Bridge::start_with(&token, spy.options());
    let mut stranger = Client::connect(&bridge, &token);
    guess(&mut stranger, &token.label, 200);
    assert!((1..=10).contains(&spy.calls("C_Login")), "{}", spy.calls("C_Login"));
}

#[test]
fn unknown_names_cost_the_module_next_to_nothing() {
    let token = Token::create();
    let spy = Spy::new();
    let bridge = Bridge::start_with(&token, spy.options());
    Client::connect(&bridge, &token).call(random()).payload();
    let before = spy.calls("C_GetSlotList");
    let since = Instant::now();
    let mut stranger = Client::connect(&bridge, &token);
    for number in 0..300 {
        guess(&mut stranger, &format!("token {number}"), 1);
    }
    let calls = spy.calls("C_GetSlotList") - before;
    let seconds = usize::try_from(since.elapsed().as_secs()).unwrap();
    assert!(calls <= 2 * (seconds + 1), "{calls} calls in {seconds} seconds");
}
