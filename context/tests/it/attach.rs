use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use kymo_context::Context;
use kymo_context::attach::{self, Attach, AttachError, ReadError};

fn private_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

#[test]
fn who_connects_is_told_the_status_and_nobody_else_can() {
    let folder = private_folder();
    let path = folder.path().join("1.sock");
    let root = Context::new("global");
    let door = Attach::open_at(&root, &path).unwrap();
    assert_eq!(door.path(), path);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let ctx = root.child("http").begin();
    ctx.persist();
    // One that connects and leaves without reading is in nobody's way.
    drop(UnixStream::connect(&path).unwrap());
    for _ in 0..3 {
        let status = attach::read(&path).unwrap();
        assert_eq!(status.contexts[1].path, "global.http");
        assert_eq!(status.contexts[0].requests.unwrap().since_start, 1);
        assert!(status.latest.is_some());
    }
    drop(door);
    assert!(!path.exists(), "closed and gone");
    assert!(matches!(attach::read(&path), Err(ReadError::Io { .. })));
}

#[test]
fn a_folder_that_others_can_enter_gets_no_socket() {
    let outer = private_folder();
    let folder = outer.path().join("open");
    std::fs::DirBuilder::new().mode(0o755).create(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = Context::new("global");
    let refused = Attach::open_at(&root, &folder.join("1.sock")).err().unwrap();
    assert!(matches!(refused, AttachError::Open { .. }), "{refused:?}");
    assert!(!folder.join("1.sock").exists());
}

#[test]
fn a_socket_left_by_an_earlier_process_is_replaced() {
    let folder = private_folder();
    let path = folder.path().join("1.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let root = Context::new("global");
    let _door = Attach::open_at(&root, &path).unwrap();
    assert_eq!(attach::read(&path).unwrap().contexts.len(), 1);
    let taken = Attach::open_at(&root, &path).err().unwrap();
    assert!(matches!(taken, AttachError::Io { .. }), "one that is listened at is not: {taken:?}");
    assert_eq!(attach::read(&path).unwrap().contexts.len(), 1, "and goes on");
}

#[test]
fn what_answers_something_else_is_named() {
    let folder = private_folder();
    let path = folder.path().join("1.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"hello").unwrap();
    });
    assert!(matches!(attach::read(&path), Err(ReadError::Answer { .. })));
    other.join().unwrap();
}
