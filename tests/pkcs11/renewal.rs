//! The module initialised anew, and its end meanwhile or afterwards.

use crate::bench::{PIN, admit, on_faulty};

#[test]
fn a_module_that_did_not_let_itself_be_finalized_is_so_at_the_end() {
    on_faulty("renewal::a_module_that_did_not_let_itself_be_finalized_is_so_at_the_end", |bench| {
        let tokens = bench.tokens();
        let token = admit(&tokens, "one", PIN).unwrap();
        bench.happen_with("break", "[[fault]]\nfunctions = \"C_Finalize\"\nrv = \"CKR_DEVICE_ERROR\"\nnext = 1\n");
        // It may or may not be of use again.
        drop(token.random(8));
        assert_eq!((bench.count("C_Finalize"), bench.count("C_Initialize")), (1, 2));
        tokens.finalize();
        assert_eq!(bench.count("C_Finalize"), 2);
    });
}
