// SPDX-License-Identifier: Apache-2.0
internal import Topology

/// The words that the outputs of `topology` have in common.
extension PCIFunction.Kind {
  /// As people read it.
  var words: String {
    switch self {
    case .rootPort: "root port"
    case .switchUpstreamPort: "switch, upstream port"
    case .switchDownstreamPort: "switch, downstream port"
    case .bridge: "bridge to a PCI bus"
    case .endpoint: "endpoint"
    case .integrated: "integrated"
    case .conventional: "conventional PCI"
    }
  }

  /// As scripts read it.
  var key: String {
    switch self {
    case .rootPort: "root_port"
    case .switchUpstreamPort: "switch_upstream_port"
    case .switchDownstreamPort: "switch_downstream_port"
    case .bridge: "bridge"
    case .endpoint: "endpoint"
    case .integrated: "integrated"
    case .conventional: "conventional"
    }
  }

  /// Whether it only leads to others.
  var isPort: Bool {
    switch self {
    case .rootPort, .switchUpstreamPort, .switchDownstreamPort, .bridge: true
    case .endpoint, .integrated, .conventional: false
    }
  }

  /// Whether access control (ACS) here decides where transfers between others are turned around.
  var turnsTransfersAround: Bool { self == .rootPort || self == .switchDownstreamPort }
}

extension PCIFunction.AccessControl {
  /// The controls in it as lspci abbreviates them, with the key that scripts read.
  var names: [(word: String, key: String)] {
    let all: [(PCIFunction.AccessControl, String, String)] = [
      (.sourceValidation, "sv", "source_validation"), (.translationBlocking, "tb", "translation_blocking"),
      (.requestRedirect, "rr", "request_redirect"), (.completionRedirect, "cr", "completion_redirect"),
      (.upstreamForwarding, "uf", "upstream_forwarding"), (.egressControl, "ec", "egress_control"),
      (.directTranslated, "dt", "direct_translated"),
    ]
    return all.filter { contains($0.0) }.map { ($0.1, $0.2) }
  }
}

extension PCIFunction {
  /// Vendor and device in words, or as numbers where nobody knows better.
  var label: String { title.map(Self.withoutLegalForms) ?? identity }

  /// A title with less of the vendor's name, for where there is little room.
  private static func withoutLegalForms(_ title: String) -> String {
    let words = title.split(separator: " ")
    var kept: [Substring] = []
    for (index, word) in words.enumerated() {
      let isForm = index > 0 && legalForms.contains(word)
      if isForm, let last = kept.last, last.hasSuffix(",") { kept[kept.count - 1] = last.dropLast() }
      if !isForm { kept.append(word) }
    }
    return kept.joined(separator: " ")
  }

  private static let legalForms: Set<Substring> = [
    "Corporation", "Corp", "Corp.", "Inc", "Inc.", "Co", "Co.", "Co.,", "Ltd", "Ltd.", "LLC", "Limited",
    "Technologies", "Technology", "Electronics", "Semiconductor",
  ]

  /// The class of a device in a word; nil where none fits better than the device's own title.
  var classWord: String? {
    switch (classCode >> 16, classCode >> 8 & 0xff) {
    case (0x01, 0x08): "NVMe"
    case (0x01, _): "storage"
    case (0x02, 0x07): "InfiniBand"
    case (0x02, _): "network"
    case (0x03, 0x02): "GPU"
    case (0x03, _): "display"
    case (0x04, _): "multimedia"
    case (0x0b, 0x40), (0x12, _): "accelerator"
    case (0x0c, 0x03): "USB"
    default: nil
    }
  }

  /// Whether it is a virtual function (SR-IOV).
  var isVirtual: Bool { physicalFunction != nil }

  /// What it is, in a few words: a port's place, or a device's class and title.
  var whatItIs: String {
    if kind.isPort { return kind.words }
    if isVirtual { return "VF, " + label }
    return [classWord, label].compactMap { $0 }.joined(separator: ", ")
  }

  /// Access control in a word or two; nil where it does not matter or can't be known.
  var accessControlWords: String? {
    guard let capabilities else { return nil }
    guard capabilities.accessControl != nil else { return kind.turnsTransfersAround ? "no ACS" : nil }
    let on = capabilities.accessControlEnabled.names.map(\.word)
    return on.isEmpty ? "ACS off" : "ACS " + on.joined(separator: ",")
  }

  /// Address translation in two words; nil where it has none or it can't be known.
  var translationWords: String? {
    capabilities?.addressTranslation.map { $0 ? "ATS on" : "ATS off" }
  }
}

extension PCIFunction.LinkStatus {
  /// "16 GT/s x8"
  var words: String {
    let rate = speed.split(separator: " ").first.map(String.init) ?? speed
    return "\(rate.hasSuffix(".0") ? String(rate.dropLast(2)) : rate) GT/s x\(width)"
  }
}

extension RDMADevice {
  /// What is behind it, in a word or two.
  var kindWords: String {
    switch kind {
    case .physicalFunction: "physical function"
    case .virtualFunction: "virtual function"
    case .subfunction: "subfunction"
    case .software: "software"
    }
  }
}

/// Text cut to a width.
extension String {
  /// At most so many characters; what is cut off is marked.
  func clipped(to width: Int) -> String { count <= width ? self : prefix(max(0, width - 1)) + "…" }
}
