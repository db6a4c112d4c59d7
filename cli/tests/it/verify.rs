//! `kymo verify` over the data of a server that is running, and over damaged data.

use std::fs;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::process::{Server, run};
use crate::remote_write::{Request, now_ms};

#[test]
fn a_server_s_data_is_sound_and_a_flipped_bit_is_told_by_file_and_byte() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder);
    let samples: Vec<(i64, f64)> = (0..300).map(|n| (now_ms() - 300_000 + n * 1000, n as f64)).collect();
    let sent = Request::default().floats(&[("__name__", "up")], &samples).send(server.port);
    assert_eq!(sent.status, 204, "{sent:?}");
    let data = folder.path().join("data");
    let said = run(["verify".as_ref(), "--deep".as_ref(), data.as_os_str()]);
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.out.starts_with("sound: ") && said.out.contains(" 300 samples in "), "{}", said.out);
    assert_eq!(server.terminate().code(), Some(0));

    let said = run(["verify".as_ref(), "--output=json".as_ref(), data.as_os_str()]);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.status, &report["sound"], &report["samples"]), (0, &true.into(), &300.into()), "{report}");
    let block = fs::read_dir(data.join("blocks")).unwrap().next().unwrap().unwrap().path();
    let file = fs::File::options().read(true).write(true).open(&block).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 20).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 20).unwrap();
    let said = run(["verify".as_ref(), data.as_os_str()]);
    assert_eq!(said.status, 3, "{said:?}");
    let place = format!("fault: {}: byte 16: ", block.display());
    assert!(said.out.lines().any(|line| line.starts_with(&place) && line.contains("checksum")), "{}", said.out);

    let said = run(["verify".as_ref(), folder.path().join("nothing").as_os_str()]);
    assert!(said.status == 1 && said.err.contains("hint"), "{said:?}");
}
