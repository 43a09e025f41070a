//! Every store runs its contract suite; the persistent ones are also opened again, damaged and killed.

mod blobs;
mod crash;
mod kill;
mod kv;
mod rocks;
mod secrets;
