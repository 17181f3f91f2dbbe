//! A new connection for each request: what clients do that are started anew for each thing they want.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::echo::{self, Echo};
use crate::link::{self, Link};
use crate::process;
use crate::report::Report;
use crate::requests::{Asks, is_success};
use crate::rounds::{Pace, reconnect};
use crate::samples::{Slice, Slices, median};
use crate::support::{Options, Token, start};

pub fn run(pace: Pace, report: &mut Report) {
    let token = Token::create();
    let bridge = start(&token, Options::default());
    let query = Asks::without_keys(&token).query();
    let echo = Echo::start(&bridge.certificate());
    for resumes in [false, true] {
        let tls: Arc<ClientConfig> = link::tls(&bridge.certificate(), resumes);
        let mut link = Link::open(bridge.address, &tls).expect("a connection");
        let answer = link.exchange(&query.message).expect("an answer");
        assert!(is_success(answer, 1), "Query is refused");
        let like_it = echo::request(query.message.len(), answer.len(), None);
        drop(link);
        let (mut bare, mut asked, mut bridged) = (Slices::default(), Slices::default(), Slices::default());
        let before = process::cpu(bridge.pid());
        for _ in 0..pace.rounds {
            bare.0.push(reconnect(echo.address, &tls, None, pace.slice));
            asked.0.push(reconnect(echo.address, &tls, Some((&like_it, 0)), pace.slice));
            bridged.0.push(reconnect(bridge.address, &tls, Some((&query.message, 1)), pace.slice));
        }
        let cpu = (process::cpu(bridge.pid()) - before).as_secs_f64() * 1e6 / bridged.operations() as f64;
        let how = if resumes { "resumed" } else { "new session" };
        for (what, slices, cpu) in [
            ("bare handshake", &bare, f64::NAN),
            ("bare handshake and exchange", &asked, f64::NAN),
            ("bridge, handshake and Query", &bridged, cpu),
        ] {
            let all = slices.together();
            let values = [
                ("p50 µs", slices.p50()),
                ("p99 µs", all.percentile(99.0)),
                ("per second", slices.rate()),
                ("cpu µs", cpu),
                ("errors", all.errors as f64),
            ];
            report.row("new connections", format!("{what}, {how}"), &values);
        }
        let ratio = |ours: &Slice, theirs: &Slice| ours.percentile(50.0) / theirs.percentile(50.0);
        let ratio = median(bridged.0.iter().zip(&bare.0).map(|(ours, theirs)| ratio(ours, theirs)));
        report.at_most(&format!("new connection + Query, {how}, of a bare handshake"), "times", ratio, 1.5);
    }
}
