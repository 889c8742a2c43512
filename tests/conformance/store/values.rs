//! Keys, values, and the ranges between them.

use super::*;

pub fn a_value_is_what_was_written_last(bench: &dyn StoreBench) {
    let mut store = bench.start().open(&id("a", 0)).unwrap();
    assert_eq!(get(&*store, b"k"), None);
    write(&mut *store, &[(b"k", Some(b"1")), (b"", Some(b"empty key")), (b"empty value", Some(b""))], 1);
    assert_eq!(get(&*store, b"k").as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&*store, b"").as_deref(), Some(&b"empty key"[..]));
    assert_eq!(get(&*store, b"empty value").as_deref(), Some(&b""[..]), "which differs from absent");
    write(&mut *store, &[(b"k", Some(b"2"))], 2);
    assert_eq!(get(&*store, b"k").as_deref(), Some(&b"2"[..]));
    write(&mut *store, &[(b"k", None), (b"never there", None)], 3);
    assert_eq!(get(&*store, b"k"), None);
    write(&mut *store, &[(b"k", Some(b"3"))], 4);
    assert_eq!(get(&*store, b"k").as_deref(), Some(&b"3"[..]), "a deleted key may come back");
    let long = vec![7; 1 << 20];
    write(&mut *store, &[(&long[..10_000], Some(&long))], 5);
    assert_eq!(get(&*store, &long[..10_000]), Some(long));
}

pub fn a_batch_names_many_keys(bench: &dyn StoreBench) {
    let mut store = bench.start().open(&id("a", 0)).unwrap();
    let keys: Vec<[u8; 4]> = (0..5_000_u32).map(u32::to_be_bytes).collect();
    let all: Vec<Write<'_>> = keys.iter().map(|key| (&key[..], Some(&key[2..]))).collect();
    store.write(&all, &checkpoint(1)).unwrap();
    let odd: Vec<Write<'_>> = keys.iter().filter(|key| key[3] % 2 == 1).map(|key| (&key[..], None)).collect();
    store.write(&odd, &checkpoint(2)).unwrap();
    let even = keys.iter().filter(|key| key[3] % 2 == 0).map(|key| (key.to_vec(), key[2..].to_vec()));
    assert_eq!(contents(&*store), even.collect::<Entries>());
}

pub fn random_keys_and_values_come_back_byte_for_byte(bench: &dyn StoreBench) {
    let mut store = bench.start().open(&id("a", 0)).unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = |length_max: u64| -> Vec<u8> {
        let mut roll = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        (0..roll() % (length_max + 1)).map(|_| roll().to_be_bytes()[3]).collect()
    };
    let entries: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = (0..500).map(|_| (bytes(40), bytes(400))).collect();
    let writes: Vec<Write<'_>> = entries.iter().map(|(key, value)| (&key[..], Some(&value[..]))).collect();
    store.write(&writes, &checkpoint(1)).unwrap();
    assert_eq!(contents(&*store), entries.clone().into_iter().collect::<Entries>());
    for (key, value) in &entries {
        assert_eq!(get(&*store, key).as_ref(), Some(value));
    }
}

pub fn a_scan_shows_keys_in_order_between_its_bounds(bench: &dyn StoreBench) {
    let mut store = bench.start().open(&id("a", 0)).unwrap();
    let keys: [&[u8]; 8] = [b"", b"\0", b"a", b"a\0", b"ab", b"b", b"\xff", b"\xff\xff"];
    let writes: Vec<Write<'_>> = keys.iter().rev().map(|key| (*key, Some(*key))).collect();
    write(&mut *store, &writes, 1);
    for (from, from_key) in keys.iter().enumerate() {
        let wanted: Entries = keys[from..].iter().map(|key| (key.to_vec(), key.to_vec())).collect();
        assert_eq!(scan(&*store, from_key, None), wanted, "from {from_key:?}");
        for (to, to_key) in keys.iter().enumerate() {
            let wanted = &wanted[..to.saturating_sub(from)];
            assert_eq!(scan(&*store, from_key, Some(to_key)), wanted, "{from_key:?} to {to_key:?}");
        }
    }
    assert_eq!(scan(&*store, b"aa", Some(b"ac")).len(), 1, "bounds need not be keys");
    assert_eq!(scan(&*store, b"\xff\xff\xff", None), []);
}

pub fn a_scan_ends_when_told(bench: &dyn StoreBench) {
    let mut store = bench.start().open(&id("a", 0)).unwrap();
    write(&mut *store, &[(b"1", Some(b"x")), (b"2", Some(b"x")), (b"3", Some(b"x"))], 1);
    let mut shown = Vec::new();
    store
        .scan(b"", None, &mut |key, _| {
            shown.push(key.to_vec());
            shown.len() < 2
        })
        .unwrap();
    assert_eq!(shown, [b"1", b"2"]);
}

pub fn stores_and_partitions_do_not_see_each_other(bench: &dyn StoreBench) {
    let stores = bench.start();
    let keys: [&[u8]; 5] = [b"", b"\0", b"a", b"\xff", &[0xff; 40]];
    let mut open: Vec<_> = every_id().into_iter().map(|id| (stores.open(&id).unwrap(), id)).collect();
    for (number, (store, id)) in (1..).zip(&mut open) {
        let value = id.to_string().into_bytes();
        let writes: Vec<Write<'_>> = keys.iter().map(|key| (*key, Some(&value[..]))).collect();
        write(&mut **store, &writes, number);
    }
    for (number, (store, id)) in (1..).zip(&open) {
        let wanted = keys.iter().map(|key| (key.to_vec(), id.to_string().into_bytes()));
        assert_eq!(contents(&**store), wanted.collect::<Entries>(), "{id}");
        assert_eq!(next_offset(&**store), Some(number), "{id}");
    }
}

pub fn size_follows_what_is_written(bench: &dyn StoreBench) {
    let stores = bench.start();
    let mut store = stores.open(&id("a", 0)).unwrap();
    let mut other = stores.open(&id("a", 1)).unwrap();
    write(&mut *other, &[(b"k", Some(b"v"))], 1);
    assert_eq!(store.size().unwrap(), tidegate::ports::store::StoreSize::default());
    write(&mut *store, &[(b"k1", Some(b"1234")), (b"k2", Some(b""))], 1);
    let size = store.size().unwrap();
    assert_eq!((size.keys, size.bytes), (2, 8));
    let keys: Vec<[u8; 4]> = (0..20_000_u32).map(u32::to_be_bytes).collect();
    let writes: Vec<Write<'_>> = keys.iter().map(|key| (&key[..], Some(&[0; 100][..]))).collect();
    store.write(&writes, &checkpoint(2)).unwrap();
    let size = store.size().unwrap();
    assert!((5_000..80_000).contains(&size.keys), "an estimate of 20,002 keys: {size:?}");
    assert!((500_000..8_000_000).contains(&size.bytes), "an estimate of 2,080,008 bytes: {size:?}");
    store.clear().unwrap();
    assert_eq!(store.size().unwrap().keys, 0);
}
