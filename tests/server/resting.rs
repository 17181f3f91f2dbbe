//! A connection that has been idle for a second waits in a thread that has done nothing else.

use std::fs;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cascade_hsm_bridge::bridge::After;

use crate::harness::*;

/// Longer than a connection takes to rest.
const LONG: Duration = Duration::from_millis(1500);

/// The threads of this process that serve `client`, which are named for it.
fn threads_of(client: &Client) -> Vec<String> {
    let name = client.sock.local_addr().unwrap().to_string();
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let tasks = tasks.filter(|task| {
        // The system keeps 15 bytes of a name. A thread may have ended meanwhile.
        let kept = fs::read_to_string(task.join("comm")).unwrap_or_default();
        !kept.trim_end().is_empty() && name.starts_with(kept.trim_end())
    });
    tasks.map(|task| task.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn goes_on_in_another_thread() {
    let threads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&threads);
    let service = Answering(move |request: &[u8]| {
        let thread = fs::read_link("/proc/thread-self").unwrap();
        seen.lock().unwrap().push(thread.file_name().unwrap().to_str().unwrap().to_owned());
        (request.to_vec(), After::KeepOpenProven)
    });
    let bench = Bench::start(Arc::new(service), |_| {});
    let mut client = bench.client();
    for round in ["first", "second", "third"] {
        assert_eq!(ask(&mut client, round), round);
        let served = threads.lock().unwrap().last().unwrap().clone();
        eventually(|| {
            let now = threads_of(&client);
            now.len() == 1 && now[0] != served
        });
    }
    assert_eq!(threads.lock().unwrap().len(), 3);
    assert_eq!(bench.running.connections(), 1);
    let Bench { running, .. } = bench;
    assert_eq!(running.stop(), 0);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn ends_after_the_idle_timeout() {
    let service = Answering(|request: &[u8]| (request.to_vec(), After::KeepOpenProven));
    let bench = Bench::start(Arc::new(service), |settings| settings.idle_timeout = LONG);
    let mut client = bench.client();
    assert_eq!(ask(&mut client, "x"), "x");
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    eventually(|| bench.running.connections() == 0);
}

#[test]
fn ends_after_the_time_for_authenticating() {
    let bench = Bench::start(echo(), |settings| settings.unauthenticated_timeout = LONG);
    let mut client = bench.client();
    assert_eq!(ask(&mut client, "x"), "x");
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    eventually(|| bench.running.connections() == 0);
}
