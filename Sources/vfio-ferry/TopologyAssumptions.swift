// SPDX-License-Identifier: Apache-2.0
internal import Topology

/// What a consistent stop rests on and the tree can show, for the outputs of `topology`.
extension TopologyView {
  /// For the named devices that are in the tree; a single device has nobody to be consistent with.
  var assumptions: [QuiescingAssumption] {
    records.count > 1 ? tree.assumptions(of: records.compactMap { $0.address(in: tree) }) : []
  }
}

extension QuiescingAssumption {
  /// The cells of a row for a person.
  var cells: [String] {
    let verdict =
      switch state {
      case .holds: "holds"
      case .violated: "does NOT hold"
      case .unknown: "not known"
      }
    return ["  \(device)", kindWords, verdict, evidence + (remedy.map { "; \($0)" } ?? "")]
  }

  private var kindWords: String {
    switch kind {
    case .readable: "its capabilities can be read"
    case .noIDOrdering: "no ID-based ordering"
    case .sharedPath: "control and data share a path"
    }
  }

  /// The same for a script.
  var json: JSON {
    .object([
      "device": .string(device), "kind": .string(kind.rawValue), "state": .string(state.rawValue),
      "evidence": .string(evidence), "remedy": JSON(remedy),
    ])
  }
}
