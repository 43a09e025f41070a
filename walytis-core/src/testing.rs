//! What unit tests share.

/// Returns bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns one line of hexadecimal digits for each item, as golden files hold them.
pub(crate) fn hex_lines<T: AsRef<[u8]>>(items: &[T]) -> String {
    items.iter().map(|item| hex(item.as_ref()) + "\n").collect()
}
