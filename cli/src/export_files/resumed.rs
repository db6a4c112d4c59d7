//! An export into a file, which goes on where it broke off.
//!
//! Beside FILE stand FILE.part, with what was written, and FILE.checkpoint, which says how much of that is whole and of which copy
//! of the data it is. When all is written and synced the copy goes, then the part gets the file's name, then the checkpoint
//! goes: stopped between any two of these, the next run begins anew or finds the file.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use clap::ValueEnum as _;
use kymo_core::QueryContext;
use kymo_export::files::{ExportPlace, FileExport, export};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Copy, Counted, Done, ExportArgs, cannot_write};
use crate::checkpoint::{Checkpoint, Found, beside, sync_folder_of};
use crate::failure::Failure;

/// How far an export came.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Reached {
    /// Name of the copy that is exported.
    copy: String,
    /// The range, which may have been told relative to the first call.
    start_ms: i64,
    end_ms: i64,
    /// Bytes of the part that are whole.
    bytes: u64,
    place: ExportPlace,
}

pub(super) fn run(args: &ExportArgs, mut what: FileExport) -> Result<Done, Failure> {
    let cannot = |error: io::Error| cannot_write(args, &error);
    if args.file.exists() {
        return Err(Failure::new(format!("{} is there already", args.file.display())).hint("name a new file"));
    }
    Copy::check(&args.data_dir)?;
    let part_path = beside(&args.file, ".part");
    let mut part = File::options().create(true).truncate(false).write(true).open(&part_path).map_err(cannot)?;
    part.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Failure::new(format!("another export writes {}", part_path.display())),
        TryLockError::Error(error) => cannot(error),
    })?;
    let job = json!({
        "data_dir": fs::canonicalize(&args.data_dir).unwrap_or_else(|_| args.data_dir.clone()),
        "match": args.matchers.as_ref().map(|selected| &selected.text),
        "start": args.start.map(|moment| format!("{moment:?}")),
        "end": args.end.map(|moment| format!("{moment:?}")),
        "format": args.format.to_possible_value().map(|format| format.get_name().to_owned()),
    });
    let (mut checkpoint, found) = Checkpoint::find::<Reached>(beside(&args.file, ".checkpoint"), job);
    let part_len = part.metadata().map_err(cannot)?.len();
    let (copy, reached) = match found {
        Found::Place(reached) if reached.bytes <= part_len && Copy::at(&args.data_dir, &reached.copy).is_there() => {
            let copy = Copy::at(&args.data_dir, &reached.copy);
            anstream::eprintln!(
                "going on with {} behind {} samples, where its export broke off",
                part_path.display(),
                reached.place.exported().samples
            );
            (what.start_ms, what.end_ms) = (reached.start_ms, reached.end_ms);
            (copy, reached)
        }
        found => {
            forget(&args.data_dir, found);
            let copy = Copy::take(&args.data_dir)?;
            let (start_ms, end_ms) = (what.start_ms, what.end_ms);
            let reached = Reached { copy: copy.name(), start_ms, end_ms, bytes: 0, place: ExportPlace::default() };
            checkpoint.write(&reached).map_err(cannot)?;
            (copy, reached)
        }
    };
    part.set_len(reached.bytes).map_err(cannot)?;
    part.seek(SeekFrom::Start(reached.bytes)).map_err(cannot)?;

    let engine = copy.open()?;
    let (begin, mut reached) = (reached.clone(), reached);
    let mut out = Counted::new(part, begin.bytes, |out, bytes, place| {
        if place.can_go_on() && checkpoint.is_due() {
            out.flush()?;
            out.get_ref().sync_data()?;
            (reached.bytes, reached.place) = (bytes, place.clone());
            checkpoint.write(&reached)?;
        }
        Ok(())
    });
    let exported = export(&engine, &what, &begin.place, &mut out, &QueryContext::unlimited());
    drop(engine);
    let written = exported.and_then(|exported| {
        out.out.get_ref().sync_all()?;
        Ok((exported, out.bytes))
    });
    drop(out);
    let (exported, bytes) = written.map_err(|error| {
        cannot_write(args, &error).hint(format!(
            "run it again to go on; to give up, remove {}, {} and {}",
            part_path.display(),
            checkpoint.path().display(),
            copy.path().display()
        ))
    })?;
    copy.remove();
    fs::rename(&part_path, &args.file).and_then(|()| sync_folder_of(&args.file)).map_err(cannot)?;
    checkpoint.remove().map_err(cannot)?;
    Ok(Done { exported, samples: exported.samples - begin.place.exported().samples, bytes: bytes - begin.bytes })
}

/// Gives up what another export left behind at this place.
fn forget(data_dir: &Path, found: Found<Reached>) {
    let left = match found {
        Found::Nothing => return,
        Found::Place(reached) => Some(reached),
        Found::Other { place, .. } => place,
    };
    anstream::eprintln!(
        "another export, or one of data that is gone, broke off here; this one begins at its beginning"
    );
    // Whatever else stands below snapshots/ is not ours.
    if let Some(left) = left.filter(|left| left.copy.starts_with("export-") && !left.copy.contains(['/', '\\'])) {
        Copy::at(data_dir, &left.copy).remove();
    }
}
