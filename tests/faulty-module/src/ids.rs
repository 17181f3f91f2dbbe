//! CKA_ID and CKA_LABEL as a token makes them, whatever the template says.

use cryptoki_sys::*;

use crate::call::Call;
use crate::real::{Scratch, forward};
use crate::template::Template;

/// Settles id and label of a new key, whose halves are given with the private one last; the answer, if the token does
/// not want it.
pub fn choose(call: &Call, class: Option<CK_OBJECT_CLASS>, halves: &mut [&mut Template]) -> Option<CK_RV> {
    let objects = &call.control.settings.objects;
    let is_key = matches!(class, Some(CKO_PUBLIC_KEY | CKO_PRIVATE_KEY | CKO_SECRET_KEY));
    let asked: Vec<Vec<u8>> = halves.iter().map(|half| half.get(CKA_ID).unwrap_or_default().to_vec()).collect();
    let last = asked.last().filter(|_| is_key)?;
    let one_for_all = if last.is_empty() { asked.first() } else { Some(last) };
    let mut chosen: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (half, own) in halves.iter_mut().zip(&asked) {
        let wanted = if objects.same_id { one_for_all.unwrap_or(own) } else { own };
        // Two halves that ask for the same get the same.
        let known = chosen.iter().find(|(asked, _)| asked == wanted).map(|(_, id)| id.clone());
        let id = known.unwrap_or_else(|| choose_one(call, wanted));
        if id != *own {
            half.set(CKA_ID, id.clone());
        }
        if objects.label_is_id {
            half.set(CKA_LABEL, id.clone());
        }
        chosen.push((wanted.clone(), id));
    }
    if let Some((last, others)) = halves.split_last_mut().filter(|_| objects.same_label) {
        if let Some(label) = last.get(CKA_LABEL) {
            others.iter_mut().for_each(|other| other.set(CKA_LABEL, label.to_vec()));
        }
    }
    let (_, id) = chosen.last()?;
    objects.unique_id.filter(|_| is_taken(call, id)).map(|rv| rv.0)
}

fn choose_one(call: &Call, wanted: &[u8]) -> Vec<u8> {
    let objects = &call.control.settings.objects;
    match (objects.id_length, objects.id_when_none) {
        (_, Some(len)) if wanted.is_empty() => random(call, objects.id_length.unwrap_or(len)),
        (Some(len), _) if wanted.len() != len => random(call, len),
        _ => wanted.to_vec(),
    }
}

fn random(call: &Call, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let session = call.subject.session.unwrap_or_default();
    forward!(call.real, C_GenerateRandom, session, bytes.as_mut_ptr(), len as CK_ULONG);
    bytes
}

/// Whether a private or secret key has that id already.
fn is_taken(call: &Call, id: &[u8]) -> bool {
    let scratch = call.slot.and_then(|slot| Scratch::open(call.real, slot));
    let find =
        |scratch: Scratch| [CKO_PRIVATE_KEY, CKO_SECRET_KEY].iter().any(|class| !scratch.find(*class, id).is_empty());
    scratch.is_some_and(find)
}
