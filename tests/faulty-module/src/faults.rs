//! The rules of `[[fault]]`: which calls they meet, how often they strike, and what they do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cryptoki_sys::*;

use crate::abi::Function;
use crate::call::Call;
use crate::control::{self, Rule};
use crate::settings::Fault;
use crate::{counts, events};

/// How often a rule came up.
#[derive(Default)]
pub struct RuleState {
    matched: AtomicU64,
    struck: AtomicU64,
    /// Calls of the rule's functions that are under way.
    inside: AtomicUsize,
}

impl RuleState {
    /// Counts one matching call and tells whether the rule strikes it.
    fn strikes(&self, fault: &Fault) -> bool {
        let matched = self.matched.fetch_add(1, Ordering::SeqCst) + 1;
        let Some(counted) = matched.checked_sub(fault.skip).filter(|counted| *counted > 0) else {
            return false;
        };
        if fault.every.is_some_and(|every| counted % every.max(1) != 0) {
            return false;
        }
        if fault.chance.is_some_and(|chance| draw(fault.seed, counted) >= chance) {
            return false;
        }
        match fault.next {
            Some(next) => {
                let once_more = |struck| (struck < next).then_some(struck + 1);
                self.struck.fetch_update(Ordering::SeqCst, Ordering::SeqCst, once_more).is_ok()
            }
            None => true,
        }
    }
}

/// A number from 0 to 1 that looks random and is the same each time (splitmix64).
fn draw(seed: u64, n: u64) -> f64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Whether a call of the function, under way, makes the rule strike others.
fn counts_inside(fault: &Fault, function: Function) -> bool {
    fault.concurrent && fault.functions.contains(function)
        || fault.alongside.is_some_and(|functions| functions.contains(function))
}

/// Whether a call that makes the rule strike others is under way, apart from this one.
fn has_company(call: &Call, rule: &Rule) -> bool {
    let own = usize::from(counts_inside(&rule.fault, call.function));
    rule.state.inside.load(Ordering::SeqCst) > own
}

/// Keeps a call among those that a rule sees under way.
pub struct Together(Vec<Arc<RuleState>>);

pub fn together(call: &Call) -> Together {
    let rules = call.control.rules.iter().filter(|rule| counts_inside(&rule.fault, call.function));
    let states = rules.map(|rule| &rule.state);
    let enter = |state: &Arc<RuleState>| {
        state.inside.fetch_add(1, Ordering::SeqCst);
        Arc::clone(state)
    };
    Together(states.map(enter).collect())
}

impl Drop for Together {
    fn drop(&mut self) {
        for state in &self.0 {
            state.inside.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Plays what comes before the call; the answer, if there is to be no call.
pub fn before(call: &Call) -> Option<CK_RV> {
    let rules = call.control.rules.iter().filter(|rule| !comes_after(&rule.fault));
    let mut rules = rules.filter(|rule| meets(call, rule, None));
    rules.find_map(|rule| strike(call, rule))
}

/// Plays what comes after the call, which ended with `rv`; what it is said to have ended with.
pub fn after(call: &Call, rv: CK_RV) -> CK_RV {
    let rules = call.control.rules.iter().filter(|rule| comes_after(&rule.fault));
    let mut rules = rules.filter(|rule| meets(call, rule, Some(rv)));
    rules.find_map(|rule| strike(call, rule)).unwrap_or(rv)
}

/// What changes an answer needs one.
fn comes_after(fault: &Fault) -> bool {
    fault.after || !fault.answered.is_empty() || fault.corrupt || fault.shorten.is_some() || fault.endless
}

fn meets(call: &Call, rule: &Rule, rv: Option<CK_RV>) -> bool {
    let Rule { fault, state, .. } = rule;
    let is_query = !call.subject.output_len.is_null() && call.subject.output.is_null();
    let input = call.subject.input;
    fault.functions.contains(call.function)
        && (fault.answered.is_empty() || fault.answered.iter().any(|answered| Some(answered.0) == rv))
        && (fault.mechanism.is_empty() || fault.mechanism.iter().any(|kind| Some(kind.0) == call.mechanism))
        && fault.query.is_none_or(|query| query == is_query)
        && fault.over_bytes.is_none_or(|bytes| input.is_some_and(|input| input > bytes))
        && fault.under_bytes.is_none_or(|bytes| input.is_some_and(|input| input < bytes))
        && (!fault.concurrent && fault.alongside.is_none() || has_company(call, rule))
        && (fault.token.is_none() || fault.token == call.label())
        && fault.class.is_none_or(|class| is_of_class(call, class.0))
        && state.strikes(fault)
}

fn is_of_class(call: &Call, class: CK_OBJECT_CLASS) -> bool {
    let _gate = call.at_work();
    call.class() == Some(class)
}

/// Does what the rule says; the answer, if it has one.
fn strike(call: &Call, rule: &Rule) -> Option<CK_RV> {
    let fault = &rule.fault;
    for event in &fault.events {
        events::happen(call.real, *event);
    }
    if fault.delay_ms > 0.0 {
        thread::sleep(Duration::from_secs_f64(fault.delay_ms / 1000.0));
    }
    if fault.hang {
        let _hanging = counts::hang();
        while control::current(call.real).has(rule) {
            thread::sleep(Duration::from_millis(5));
        }
    }
    if fault.abort {
        std::process::abort();
    }
    if fault.panic {
        panic!("a control file asked for a panic in {}", call.function.name());
    }
    if fault.corrupt {
        corrupt(call);
    }
    if let Some(bytes) = fault.shorten {
        shorten(call, bytes);
    }
    if fault.endless {
        lengthen(call);
    }
    fault.rv.map(|rv| rv.0)
}

/// Flips a bit of what the call gave.
fn corrupt(call: &Call) {
    // SAFETY: the application passes null or a pointer to a length, here as to any module.
    let len = unsafe { call.subject.output_len.as_ref() }.map_or(0, |len| *len as usize);
    if call.subject.output.is_null() || len == 0 || len == usize::MAX {
        return;
    }
    // SAFETY: the module has just written `len` bytes there.
    let last = unsafe { &mut *call.subject.output.add(len - 1) };
    *last ^= 1;
}

/// Makes the length that was asked for one that nobody has room for.
fn lengthen(call: &Call) {
    // SAFETY: the application passes null or a pointer to a length, here as to any module.
    let len = unsafe { call.subject.output_len.as_mut() };
    if let Some(len) = len.filter(|_| call.subject.output.is_null()) {
        *len = CK_ULONG::MAX;
    }
}

/// Makes the length that was asked for too small.
fn shorten(call: &Call, bytes: u64) {
    // SAFETY: the application passes null or a pointer to a length, here as to any module.
    let len = unsafe { call.subject.output_len.as_mut() };
    if let Some(len) = len.filter(|_| call.subject.output.is_null()) {
        *len = len.saturating_sub(bytes as CK_ULONG);
    }
}
