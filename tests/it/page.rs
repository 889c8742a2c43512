//! The script of the page, run by node where there is one.

use std::path::Path;
use std::process::Command;

#[test]
fn the_page_says_when_it_has_lost_its_stream_and_comes_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Ok(output) =
        Command::new("node").arg(root.join("tests/it/page.js")).arg(root.join("src/http/page/page.js")).output()
    else {
        eprintln!("SKIPPED: there is no node to run the page's script");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
