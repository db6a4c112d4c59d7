use std::fs;

use kymo_core::SampleBatch;
use proptest::prelude::*;

use super::bits::{Bits, Xor};
use super::*;

/// A chunk of floats by the documented format: five samples, one of them a step late, one a staleness marker.
const CHUNK: &[u8] = &[
    0x00, 0x02, // two samples
    0xd0, 0x0f, // 1000 ms
    0x3f, 0xf0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // 1.0
    0x0a, // 10 ms later
    0x00, // and the same value
];

fn floats(encoding: u8, bytes: &[u8]) -> Result<Vec<(i64, f64)>, ()> {
    let mut found = Vec::new();
    let decoded = chunk::decode::<()>(encoding, bytes, &mut |time_ms, value| {
        if let chunk::Value::Float(value) = value {
            found.push((time_ms, value));
        }
        Ok(())
    });
    decoded?.map_err(|_| ())?;
    Ok(found)
}

#[test]
fn a_chunk_reads_as_its_format_says() {
    assert_eq!(floats(chunk::FLOATS, CHUNK), Ok(vec![(1_000, 1.0), (1_010, 1.0)]));
    for cut in 0..CHUNK.len() {
        assert!(floats(chunk::FLOATS, &CHUNK[..cut]).is_err(), "cut at {cut}");
    }
    assert!(floats(9, CHUNK).is_err());
}

#[test]
fn numbers_of_all_lengths_read_back() {
    // `0`, then `10` and 3 bits, `110` and 6 bits.
    let mut bits = Bits::new(&[0b0100_1111, 0b0111_1110]);
    assert_eq!((bits.varbit(), bits.varbit(), bits.varbit()), (Ok(0), Ok(3), Ok(-1)));
    let mut xor = Xor::new(1.0);
    // A change of 64 bits is told as 0 of them.
    let mut bytes = vec![0b1100_0000, 0b0000_0000];
    bytes.extend([0xff; 8]);
    assert!(xor.next(&mut Bits::new(&bytes)).is_ok());
}

/// Reads a directory; what is given goes nowhere.
fn read(dir: &Path) -> Result<Imported, ImportError> {
    data_directory(dir, &Place::default(), &mut |_: &SampleBatch, _: &Place| Ok(()), &mut |_, _| {})
}

#[test]
fn what_is_no_data_directory_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(read(folder.path()).unwrap_err().to_string().contains("no Prometheus data directory"));
    assert!(read(&folder.path().join("nothing")).is_err());
    let block = folder.path().join("01BX6V6TY06G5MFQ0GPH7EMXRH");
    fs::create_dir_all(block.join("chunks")).unwrap();
    fs::write(block.join("meta.json"), "{}").unwrap();
    for (index, wanted) in [(&[0u8; 100][..], "no index"), (&[1], "cut short")] {
        fs::write(block.join("index"), index).unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains(wanted));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_chunk_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..400), encoding in 0u8..5) {
        let _ = floats(encoding, &bytes);
    }

    #[test]
    fn any_bytes_are_an_index_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let block = folder.path().join("block");
        fs::create_dir_all(block.join("chunks")).unwrap();
        fs::write(block.join("meta.json"), "{}").unwrap();
        // With a head and a table of contents that are sound.
        let mut index = vec![0xba, 0xaa, 0xd7, 0x00, 2];
        index.extend_from_slice(&bytes);
        let toc_at = index.len() as u64;
        let toc: Vec<u8> = [5, toc_at / 2, 0, 0, 0, 0].iter().flat_map(|offset: &u64| offset.to_be_bytes()).collect();
        index.extend_from_slice(&toc);
        index.extend_from_slice(&crc32c::crc32c(&toc).to_be_bytes());
        fs::write(block.join("index"), &index).unwrap();
        let _ = read(folder.path());
    }

    #[test]
    fn any_bytes_are_a_log_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..16) {
        let folder = tempfile::tempdir().unwrap();
        let wal = folder.path().join("wal");
        fs::create_dir_all(&wal).unwrap();
        let mut record = vec![kind];
        record.extend_from_slice(&bytes);
        let mut page = vec![1];
        page.extend_from_slice(&(record.len() as u16).to_be_bytes());
        page.extend_from_slice(&crc32c::crc32c(&record).to_be_bytes());
        page.extend_from_slice(&record);
        fs::write(wal.join("00000000"), &page).unwrap();
        let _ = read(folder.path());
        // A fragment cut short at the end of the log is what a stop leaves.
        page.truncate(page.len() - 1);
        fs::write(wal.join("00000000"), &page).unwrap();
        prop_assert!(read(folder.path()).is_ok());
    }
}
