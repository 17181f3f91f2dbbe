//! Destroying keys from the command line: what is to go is shown, and asked about, before anything goes.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use super::{Wishes, complain, print};
use crate::bridge::inventory::{Half, Named, Pair, Place};
use crate::console;
use crate::pkcs11::{Class, Error, Token};

/// A key that is to go.
struct Victim<'p> {
    id: &'p [u8],
    class: Class,
    identifier: &'p str,
    label: Option<&'p str>,
    /// Whether the other half goes too, and may take this one with it.
    after_partner: bool,
}

/// Destroys the keys if whoever asks for it says yes.
///
/// # Errors
/// One of them cannot be meant, or nobody can be asked: then none is destroyed.
pub fn run(token: &Token, pairs: &[Pair], wishes: &Wishes) -> Result<ExitCode, String> {
    let mut victims = Vec::new();
    for pair in pairs {
        victims.extend(of_pair(pair, &wishes.named)?);
    }
    if victims.is_empty() {
        print("nothing is to be destroyed\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    if !wishes.yes && !is_wanted(token, &victims)? {
        print("nothing is destroyed\n")?;
        return Ok(ExitCode::FAILURE);
    }
    let mut code = ExitCode::SUCCESS;
    for victim in &victims {
        match token.destroy(victim.class, victim.id) {
            // On some tokens the halves are one object.
            Ok(()) => print(&format!("destroyed {}\n", victim.identifier))?,
            Err(Error::NotFound { .. }) if victim.after_partner => {
                print(&format!("destroyed {}\n", victim.identifier))?
            }
            Err(error) => code = complain(&format!("{}: {error}", victim.identifier)),
        }
    }
    Ok(code)
}

/// What of a pair is to go, the private key first: what is left if that goes wrong can sign nothing.
fn of_pair<'p>(pair: &'p Pair, named: &[Named]) -> Result<Vec<Victim<'p>>, String> {
    let wanted: Vec<_> = named.iter().filter(|named| named.id == pair.id).map(|named| named.class).collect();
    let is_wanted = |class| wanted.is_empty() || wanted.iter().any(|one| one.is_none_or(|one| one == class));
    let mut victims: Vec<Victim<'p>> = Vec::new();
    for (class, halves) in [(Class::PrivateKey, &pair.private), (Class::PublicKey, &pair.public)] {
        let stored: Vec<&Half> = halves.iter().filter(|half| half.place == Place::Object).collect();
        match stored.as_slice() {
            [] => {}
            [half] if is_wanted(class) => {
                let Some(identifier) = half.identifier.as_deref() else {
                    return Err(format!(
                        "the {class} {} has no CKA_ID by which it could be destroyed\nhint: pkcs11-tool --set-id gives it one",
                        half.label.as_deref().unwrap_or_default().escape_debug()
                    ));
                };
                let (id, label, after_partner) = (pair.id.as_slice(), half.label.as_deref(), !victims.is_empty());
                victims.push(Victim { id, class, identifier, label, after_partner });
            }
            [_] => {}
            several => {
                if is_wanted(class) {
                    return Err(format!(
                        "{}: {} {class} objects have this CKA_ID, and none is guessed\nhint: pkcs11-tool --set-id gives each one of its own",
                        pair.identifier(),
                        several.len()
                    ));
                }
            }
        }
    }
    Ok(victims)
}

fn is_wanted(token: &Token, victims: &[Victim<'_>]) -> Result<bool, String> {
    let mut question = String::new();
    for Victim { identifier, label, .. } in victims {
        let label = label.map(|label| format!(" \"{}\"", label.escape_debug())).unwrap_or_default();
        question.push_str(&format!("  {identifier}{label}\n"));
    }
    question.push_str(&format!(
        "These keys on the token {} cannot be brought back.\nDestroy them? Type yes to do so: ",
        token.info().name()
    ));
    let answer = console::ask(&question);
    let answer =
        answer.map_err(|why| format!("there is no terminal to ask at: {why}\nhint: --yes destroys without asking"))?;
    Ok(answer.trim() == "yes")
}
