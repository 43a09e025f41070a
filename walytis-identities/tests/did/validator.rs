//! The structural rules of DID Core 1.0 and of Multikey, written from the specifications: nothing here uses the code that
//! makes documents. Says what is wrong with a document.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// What the two contexts define: DID Core (`https://www.w3.org/ns/did/v1`) at the top and in services, and Multikey
/// (`https://w3id.org/security/multikey/v1`) in methods of that type.
const CONTEXTS: [&str; 2] = ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"];
const TOP_TERMS: [&str; 11] = [
    "@context",
    "id",
    "alsoKnownAs",
    "controller",
    "verificationMethod",
    "authentication",
    "assertionMethod",
    "keyAgreement",
    "capabilityInvocation",
    "capabilityDelegation",
    "service",
];
const METHOD_TERMS: [&str; 7] =
    ["id", "type", "controller", "publicKeyMultibase", "secretKeyMultibase", "revoked", "expires"];
const SERVICE_TERMS: [&str; 3] = ["id", "type", "serviceEndpoint"];
const RELATIONS: [&str; 5] =
    ["authentication", "assertionMethod", "keyAgreement", "capabilityInvocation", "capabilityDelegation"];
/// Registered multicodec prefixes of public keys, with the length of the key.
const KEYS: [([u8; 2], usize); 4] =
    [([0xed, 0x01], 32), ([0xec, 0x01], 32), ([0x8c, 0x24], 1184), ([0x91, 0x24], 1952)];

type Check = Result<(), String>;

/// Checks a document, and that it is about `did`.
pub(crate) fn check(document: &Value, did: &str) -> Check {
    let document = document.as_object().ok_or("a document is an object")?;
    only(document, &TOP_TERMS)?;
    let contexts: Vec<&str> = strings(document.get("@context").ok_or("no @context")?)?;
    need(contexts.first() == Some(&CONTEXTS[0]), "the first context is DID Core's")?;
    need(contexts.iter().all(|context| CONTEXTS.contains(context)), "a context that is not known")?;
    need(text(document, "id")? == did && is_did(did), "id is the DID")?;
    if let Some(controllers) = document.get("controller") {
        let controllers = set(controllers)?;
        need(controllers.iter().all(|controller| is_did(controller)), "controllers are DIDs")?;
    }
    let mut ids = BTreeSet::new();
    for method in list(document, "verificationMethod")? {
        let id = check_method(method)?;
        need(id.starts_with(&format!("{did}#")), "a method is a fragment of its document")?;
        need(ids.insert(id), "two things with one id")?;
    }
    for relation in RELATIONS {
        let Some(methods) = document.get(relation) else { continue };
        let methods = set(methods)?;
        need(!methods.is_empty(), "an empty relation")?;
        need(methods.iter().all(|id| ids.contains(*id)), &format!("{relation} names a method that is not there"))?;
    }
    for service in list(document, "service")? {
        let service = service.as_object().ok_or("a service is an object")?;
        only(service, &SERVICE_TERMS)?;
        let id = text(service, "id")?;
        need(id.starts_with(&format!("{did}#")), "a service is a fragment of its document")?;
        need(ids.insert(id.to_owned()), "two things with one id")?;
        need(!text(service, "type")?.is_empty(), "a service without a type")?;
        let endpoint = text(service, "serviceEndpoint")?;
        need(endpoint.contains(':') && !endpoint.contains(char::is_whitespace), "an endpoint is a URI")?;
    }
    Ok(())
}

fn check_method(method: &Value) -> Result<String, String> {
    let method = method.as_object().ok_or("a method is an object")?;
    only(method, &METHOD_TERMS)?;
    need(!method.contains_key("secretKeyMultibase"), "a secret key in a document")?;
    need(text(method, "type")? == "Multikey", "the type is Multikey")?;
    need(is_did(text(method, "controller")?), "the controller is a DID")?;
    let key = text(method, "publicKeyMultibase")?;
    let key = bs58::decode(key.strip_prefix('z').ok_or("base58btc begins with z")?).into_vec();
    let key = key.map_err(|_| "the key is no base58btc")?;
    let known = KEYS.iter().any(|(prefix, len)| key.starts_with(prefix) && key.len() == 2 + len);
    need(known, "the key has no registered code, or another length")?;
    Ok(text(method, "id")?.to_owned())
}

/// DID syntax (§3.1), as far as this method uses it.
fn is_did(text: &str) -> bool {
    let mut parts = text.splitn(3, ':');
    let method = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let id = |id: &str| !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c));
    parts.next() == Some("did") && parts.next().is_some_and(method) && parts.next().is_some_and(id)
}

fn need(holds: bool, what: &str) -> Check {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn only(object: &Map<String, Value>, terms: &[&str]) -> Check {
    match object.keys().find(|key| !terms.contains(&key.as_str())) {
        Some(unknown) => Err(format!("no context defines {unknown}")),
        None => Ok(()),
    }
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    object.get(name).and_then(Value::as_str).ok_or_else(|| format!("{name} is missing or no string"))
}

fn list<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a [Value], String> {
    match object.get(name) {
        None => Ok(&[]),
        Some(Value::Array(values)) if !values.is_empty() => Ok(values),
        Some(_) => Err(format!("{name} is no list, or an empty one")),
    }
}

fn strings(value: &Value) -> Result<Vec<&str>, String> {
    match value {
        Value::String(one) => Ok(vec![one]),
        Value::Array(all) => all.iter().map(|one| one.as_str().ok_or_else(|| "no string".to_owned())).collect(),
        _ => Err("neither a string nor a list".into()),
    }
}

/// A set: no string twice.
fn set(value: &Value) -> Result<Vec<&str>, String> {
    let all = strings(value)?;
    need(all.iter().collect::<BTreeSet<_>>().len() == all.len(), "a string twice in a set")?;
    Ok(all)
}
