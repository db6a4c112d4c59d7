//! What the targets of imported files hold any input to.

use std::io::BufRead;

use kymo_core::SampleBatch;
use kymo_ingest::import::{BatchSink, ImportError, Imported, Place};

/// A reader of one kind of file.
pub type Reader = fn(&mut dyn BufRead, &Place, &mut BatchSink<'_>, &mut dyn FnMut(u64)) -> Result<Imported, ImportError>;

/// Reads it, and reads it again from each place that was told.
///
/// Whatever it is, what is reported as read is what was given away, and an import that goes on at a place reads what stands
/// behind it as the whole one did, to the same end.
pub fn feed(read: Reader, bytes: &[u8]) {
    let (rows, places, imported) = rows(read, bytes, &Place::default());
    if let Some(imported) = imported {
        assert_eq!(rows.len() as u64, imported.samples, "what was read was given away");
    }
    for place in places {
        let (again, _, of_again) = self::rows(read, bytes, &place);
        assert!(rows.ends_with(&again), "from {place}: {again:?}\nof {rows:?}");
        assert_eq!(of_again.is_some(), imported.is_some(), "from {place}");
    }
}

/// The rows behind a place, the places that are told meanwhile, and what was read if it was read to the end.
fn rows(read: Reader, bytes: &[u8], begin: &Place) -> (Vec<String>, Vec<Place>, Option<Imported>) {
    let (mut rows, mut places) = (Vec::new(), Vec::new());
    let mut take = |batch: &SampleBatch, place: &Place| {
        rows.extend(batch.rows().map(|row| format!("{row:?}")));
        places.push(place.clone());
        Ok(())
    };
    let mut from = &bytes[begin.bytes() as usize..];
    let imported = read(&mut from, begin, &mut take, &mut |_| {}).ok();
    (rows, places, imported)
}
