use super::*;

/// The key of the hashed lines below, which `ssh-keygen -H` wrote.
const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
const NOW: u64 = 1_800_000_000;

fn key(algorithm: &str, content: u8) -> HostKey {
    let mut blob = Vec::new();
    for field in [algorithm.as_bytes(), &[content; 32]] {
        blob.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
        blob.extend(field);
    }
    HostKey::from_blob(blob).unwrap()
}

fn ours() -> HostKey {
    HostKey::parse(ED25519).unwrap()
}

fn knowledge(text: &str, address: &str, port: u16) -> Knowledge {
    let files = [(
        PathBuf::from("kh"),
        text.replace("OURS", ED25519).into_bytes(),
    )];
    Knowledge::collect(
        Lookup {
            address,
            port,
            alias: None,
        },
        &files,
    )
}

/// The verdict in a word, about our key.
fn verdict(text: &str, address: &str, port: u16) -> String {
    let other = key("ssh-ed25519", 1).to_string();
    let ecdsa = key("ecdsa-sha2-nistp256", 2).to_string();
    let text = text.replace("OTHER", &other).replace("ECDSA", &ecdsa);
    match knowledge(&text, address, port).judge(&Offered::Key(ours()), NOW) {
        Verdict::Known { line, .. } => format!("known:{line}"),
        Verdict::Certified { .. } => "certified".into(),
        Verdict::Unknown { .. } => "unknown".into(),
        Verdict::OtherTypes { known } => format!("other types:{}", known[0].line),
        Verdict::Changed { expected } => {
            let lines: Vec<String> = expected
                .iter()
                .map(|known| known.line.to_string())
                .collect();
            format!("changed:{}", lines.join(","))
        }
        Verdict::Revoked { line, .. } => format!("revoked:{line}"),
    }
}

#[test]
fn every_row_of_openssh_s_rules_is_decided_as_openssh_decides_it() {
    let rows = [
        // Plain lines.
        ("h OURS", "known:1"),
        ("h OURS a comment", "known:1"),
        ("", "unknown"),
        ("other OURS", "unknown"),
        ("h OTHER", "changed:1"),
        ("h ECDSA", "other types:1"),
        // Line numbers count every line.
        ("# a comment\n\nh OURS\n", "known:3"),
        // Several keys of one type: any of them is right.
        ("h OTHER\nh OURS", "known:2"),
        ("h OTHER\nh ECDSA\nh OTHER", "changed:1,3"),
        // Revocation wins wherever it stands.
        ("@revoked h OURS\nh OURS", "revoked:1"),
        ("h OURS\n@revoked * OURS", "revoked:2"),
        ("@revoked h OTHER\nh OURS", "known:2"),
        ("@revoked other OURS\nh OURS", "known:2"),
        // An authority's key is not a host's key.
        ("@cert-authority h OURS", "unknown"),
        ("@cert-authority h OTHER", "unknown"),
        // Patterns and negation.
        ("* OURS", "known:1"),
        ("?  OURS", "known:1"),
        ("?? OURS", "unknown"),
        ("a,h OURS", "known:1"),
        ("!h,* OURS", "unknown"),
        ("*,!h OURS", "unknown"),
        ("!x,* OURS", "known:1"),
        ("!x OURS", "unknown"),
        // Blanks and case.
        ("h\tOURS", "known:1"),
        ("  h  OURS  ", "known:1"),
        ("h OURS\r\n", "known:1"),
        ("H OURS", "known:1"),
        // Lines that cannot be read are skipped.
        (
            "h\nh ssh-ed25519\nh ssh-ed25519 !!!\n@what h OURS\nh 1024 35 123\nh OURS",
            "known:6",
        ),
        (
            "h ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
            "unknown",
        ),
        ("|1|broken h OURS", "unknown"),
    ];
    for (text, expected) in rows {
        assert_eq!(verdict(text, "h", 22), expected, "{text:?}");
    }
}

#[test]
fn hashed_names_are_found_with_and_without_a_port() {
    let text = "|1|KlifwkdKYQkNEDF30xj/ZHI2Vgw=|GvewILe+fMjgAOWo8VAckfrMmwQ= OURS\n|1|FJJ3PiG6oxWhh0/yfVllp7rD7TM=|fpSlxF74Z0pY+3biChdqJtVhLVk= OURS";
    assert_eq!(verdict(text, "web1.example.com", 22), "known:1");
    assert_eq!(verdict(text, "WEB1.example.com", 2222), "known:2");
    assert_eq!(verdict(text, "web2.example.com", 22), "unknown");
}

#[test]
fn a_port_other_than_22_is_part_of_the_name() {
    assert_eq!(verdict("[h]:2222 OURS", "h", 2222), "known:1");
    assert_eq!(verdict("[h]:2222 OURS", "h", 22), "unknown");
    assert_eq!(verdict("[h]:2222 OTHER\nh OURS", "h", 2222), "changed:1");
    // With nothing known about the port, the bare name may vouch, and only vouch.
    assert_eq!(verdict("h OURS", "h", 2222), "known:1");
    assert_eq!(verdict("h OTHER", "h", 2222), "unknown");
    assert_eq!(
        verdict("@revoked h OURS\n[h]:2222 OURS", "h", 2222),
        "revoked:1"
    );
}

#[test]
fn an_alias_stands_for_address_and_port() {
    let lookup = Lookup {
        address: "203.0.113.1",
        port: 2222,
        alias: Some("Web1"),
    };
    let files = [(PathBuf::from("kh"), format!("web1 {ED25519}").into_bytes())];
    let verdict = Knowledge::collect(lookup, &files).judge(&Offered::Key(ours()), NOW);
    assert!(matches!(verdict, Verdict::Known { .. }));
}

#[test]
fn every_file_counts_and_bytes_that_are_no_text_hurt_nothing() {
    let lookup = Lookup {
        address: "h",
        port: 22,
        alias: None,
    };
    let files = [
        (PathBuf::from("one"), b"h \xff\xfe\n\0\0\n".to_vec()),
        (PathBuf::from("two"), format!("h {ED25519}").into_bytes()),
    ];
    let verdict = Knowledge::collect(lookup, &files).judge(&Offered::Key(ours()), NOW);
    assert_eq!(
        verdict,
        Verdict::Known {
            file: "two".into(),
            line: 1
        }
    );
}

#[test]
fn the_known_types_are_told_so_that_they_can_be_asked_for() {
    let ecdsa = key("ecdsa-sha2-nistp256", 2);
    let text = format!("h {ecdsa}\nh OURS\nh {ecdsa}\n@cert-authority h OURS\nx OURS");
    let known = knowledge(&text, "h", 22);
    assert_eq!(known.algorithms(), ["ecdsa-sha2-nistp256", "ssh-ed25519"]);
    assert!(known.has_authority());
    assert!(!knowledge("h OURS", "h", 22).has_authority());
}

fn certificate() -> HostCertificate {
    HostCertificate {
        key: ours(),
        authority: key("ssh-ed25519", 9),
        kind: CertificateKind::Host,
        key_id: "web1 2026".into(),
        principals: vec!["h".into()],
        valid_after: NOW - 10,
        valid_before: NOW + 10,
        critical_options: vec![],
        signature: Signature::Valid,
    }
}

/// What is thought of a certificate by an operator who believes its authority.
fn judge_certificate(certificate: HostCertificate, more: &str) -> Verdict {
    let text = format!("@cert-authority * {}\n{more}", key("ssh-ed25519", 9));
    knowledge(&text, "h", 22).judge(&Offered::Certificate(certificate), NOW)
}

#[test]
fn a_certificate_vouches_for_a_host_it_names() {
    let verdict = judge_certificate(certificate(), "");
    let authority = key("ssh-ed25519", 9).fingerprint();
    assert_eq!(
        verdict,
        Verdict::Certified {
            authority,
            key_id: "web1 2026".into()
        }
    );
    let wild = HostCertificate {
        principals: vec!["x".into(), "*".into()],
        ..certificate()
    };
    assert!(matches!(
        judge_certificate(wild, ""),
        Verdict::Certified { .. }
    ));
}

#[test]
fn a_certificate_with_any_fault_vouches_for_nothing() {
    let faults = [
        HostCertificate {
            kind: CertificateKind::User,
            ..certificate()
        },
        HostCertificate {
            principals: vec![],
            ..certificate()
        },
        HostCertificate {
            principals: vec!["other".into()],
            ..certificate()
        },
        HostCertificate {
            valid_before: NOW,
            ..certificate()
        },
        HostCertificate {
            valid_after: NOW + 1,
            ..certificate()
        },
        HostCertificate {
            critical_options: vec!["force-command".into()],
            ..certificate()
        },
        HostCertificate {
            signature: Signature::Invalid,
            ..certificate()
        },
        HostCertificate {
            authority: key("ssh-ed25519", 8),
            ..certificate()
        },
    ];
    for fault in faults {
        let verdict = judge_certificate(fault.clone(), "");
        let Verdict::Unknown {
            certificate: Some(reason),
        } = verdict
        else {
            panic!("{fault:?}: {verdict:?}");
        };
        assert!(!reason.is_empty());
        // The key inside may still be known for itself, as in OpenSSH.
        assert!(matches!(
            judge_certificate(fault, "h OURS"),
            Verdict::Known { line: 2, .. }
        ));
    }
}

#[test]
fn a_revoked_authority_or_key_ends_a_certificate() {
    let authority = format!("@revoked * {}", key("ssh-ed25519", 9));
    assert!(matches!(
        judge_certificate(certificate(), &authority),
        Verdict::Revoked { line: 2, .. }
    ));
    assert!(matches!(
        judge_certificate(certificate(), "@revoked h OURS"),
        Verdict::Revoked { .. }
    ));
}

#[test]
fn patterns_take_no_longer_than_they_should() {
    let pattern = "*a".repeat(2_000);
    let before = std::time::Instant::now();
    assert!(!matches_pattern(
        pattern.as_bytes(),
        "a".repeat(1_000).as_bytes()
    ));
    assert!(before.elapsed().as_secs() < 20);
    assert!(matches_pattern(b"*.example.???", b"web1.example.com"));
    assert!(!matches_pattern(
        b"*.example.???",
        b"web1.example.com.evil.net"
    ));
}
