//! Objects that searches find though nobody made them, such as kryoptic's one for each mechanism.

use cryptoki_sys::*;

use crate::call::Call;
use crate::handles;
use crate::sessions;
use crate::template::Template;

/// Their handles: out of the way of those that modules count up.
const FIRST: CK_OBJECT_HANDLE = 0x7000_0000;

fn class(call: &Call) -> CK_OBJECT_CLASS {
    call.control.settings.objects.extra_class.map_or(CKO_MECHANISM, |class| class.0)
}

/// A search begins: they are found by one for everything, or for their class.
pub fn begin(call: &Call, session: CK_SESSION_HANDLE, template: &Template) {
    let asked = template.len() == 0 || template.len() == 1 && template.class() == Some(class(call));
    let extra = 0..if asked { call.control.settings.objects.extra } else { 0 };
    sessions::operations(session, |operations| operations.extra = extra);
}

/// The next ones, at most as many as there is room for.
pub fn next(call: &Call, session: CK_SESSION_HANDLE, room: &mut [CK_OBJECT_HANDLE]) -> usize {
    let mut taken = 0;
    sessions::operations(session, |operations| {
        for (place, number) in room.iter_mut().zip(&mut operations.extra) {
            *place = FIRST + CK_OBJECT_HANDLE::from(number);
            taken += 1;
        }
    });
    room[..taken].iter_mut().for_each(|object| *object = handles::give(call, *object));
    taken
}

/// What one of them says of itself; `None` for any other object.
pub fn attribute(call: &Call, object: CK_OBJECT_HANDLE, kind: CK_ATTRIBUTE_TYPE) -> Option<Result<Vec<u8>, CK_RV>> {
    let number = object.checked_sub(FIRST)?;
    let number = (number < CK_OBJECT_HANDLE::from(call.control.settings.objects.extra)).then_some(number)?;
    Some(match kind {
        CKA_CLASS => Ok(class(call).to_ne_bytes().to_vec()),
        CKA_MECHANISM_TYPE => Ok(number.to_ne_bytes().to_vec()),
        CKA_TOKEN | CKA_PRIVATE | CKA_MODIFIABLE => Ok(vec![CK_FALSE]),
        _ => Err(CKR_ATTRIBUTE_TYPE_INVALID),
    })
}
