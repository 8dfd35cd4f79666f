// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Glibc
internal import LinuxIO
internal import Migration
internal import Topology

struct TagCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "tag", abstract: "Print what a destination must match, or compare two. Binds nothing.",
    usage: """
      vfio-ferry tag [OPTIONS] DEV
      vfio-ferry tag --compare [--policy POLICY] SOURCE DESTINATION
      """,
    discussion: """
      What is printed can be kept in a file. SOURCE and DESTINATION are devices of this host or such files; what is no \
      device name is a file's.

      Exit status with --compare: 0 the destination matches, 3 it does not. Without root capabilities can't be read, and a \
      tag lacks them.
      """)

  @OptionGroup var format: FormatOptions

  @Flag(help: "Compare two tags.")
  var compare = false

  @Option(help: "With --compare, how much has to match: strict, loose, none.", transform: TagPolicy.named)
  var policy: TagPolicy?

  @Argument(help: ArgumentHelp("A device; with --compare two devices or files.", valueName: "DEV"))
  var subjects: [String]

  func validate() throws {
    if compare, subjects.count != 2 { throw ValidationError("--compare takes a source and a destination") }
    if !compare, subjects.count != 1 { throw ValidationError("name one device, or --compare two") }
    if !compare, policy != nil { throw ValidationError("--policy goes with --compare") }
  }

  func execute(_ console: Console) throws {
    try execute(console, access: DeviceAccess(), scanner: TagScanner())
  }

  func execute(_ console: Console, access: DeviceAccess, scanner: TagScanner) throws {
    if compare {
      let tags = try subjects.map { try self.tag(of: $0, access, scanner, orFile: true) }
      return try report(TagComparison(source: tags[0], destination: tags[1]), console)
    }
    let tag = try self.tag(of: subjects[0], access, scanner, orFile: false)
    if format.wantsJSON { return console.json(tag.json(name: subjects[0]), format) }
    console.out(tag.text)
  }

  private func tag(
    of subject: String, _ access: DeviceAccess, _ scanner: TagScanner, orFile: Bool
  ) throws(CommandFailure) -> CompatibilityTag {
    guard orFile, DeviceName(subject) == nil else {
      return scanner.tag(of: try access.record(DeviceAccess.name(subject)))
    }
    let bytes: [UInt8]
    do throws(SystemError) {
      // One more than a tag may have, so that a larger file is found out.
      bytes = try Files.readBytes(subject, maximum: CompatibilityTag.maximumSize + 1)
    } catch {
      throw error.errno == ENOENT ? .nothing("\(error)") : .failed("\(error)")
    }
    do throws(CompatibilityTag.Problem) {
      return try CompatibilityTag(decoding: bytes)
    } catch {
      throw .failed("\(subject): \(error)")
    }
  }

  private func report(_ comparison: TagComparison, _ console: Console) throws(CommandFailure) {
    let policy = policy ?? .loose
    let refusal = TagComparison.words(comparison.refusals(under: policy))
    if format.wantsJSON {
      console.json(comparison.json(policy), format)
    } else {
      let rows = comparison.findings.map { finding in
        [
          finding.key, finding.relation.rawValue, finding.verdict, finding.source ?? "-",
          finding.relation == .equal ? "the same" : finding.destination ?? "-",
        ]
      }
      for line in TextTable.lines([["FIELD", "DESTINATION", "REFUSED BY", "SOURCE HAS", "DESTINATION HAS"]] + rows) {
        console.line(line)
      }
    }
    for warning in comparison.warnings(under: policy) { console.note("warning: \(warning)") }
    if let refusal { throw .refused("no match (\(policy.rawValue) policy): \(refusal)") }
    if !format.wantsJSON { console.line("match (\(policy.rawValue) policy)") }
  }
}

extension TagPolicy {
  /// The policy that a command line names.
  static func named(_ text: String) throws -> TagPolicy {
    guard let policy = TagPolicy(rawValue: text) else {
      throw ValidationError("--policy takes \(allCases.map(\.rawValue).joined(separator: ", "))")
    }
    return policy
  }
}

extension TagComparison.Finding {
  /// The policies that refuse it.
  fileprivate var verdict: String { refusesLoose ? "strict, loose" : refusesStrict ? "strict" : "-" }
}

extension CompatibilityTag {
  fileprivate func json(name: String) -> JSON {
    .object([
      "name": .string(name), "tag_version": .integer(Int64(CompatibilityTag.version)),
      "fields": .object(entries.map { JSON.Member(key: $0.key, value: .string($0.value)) }),
    ])
  }
}

extension TagComparison {
  fileprivate func json(_ policy: TagPolicy) -> JSON {
    .object([
      "policy": .string(policy.rawValue), "match": .bool(refusals(under: policy).isEmpty),
      "fields": .array(
        findings.map { finding in
          .object([
            "field": .string(finding.key), "relation": .string(finding.relation.rawValue),
            "refuses_strict": .bool(finding.refusesStrict), "refuses_loose": .bool(finding.refusesLoose),
            "warns": .bool(finding.warns),
            "source": JSON(finding.source), "destination": JSON(finding.destination),
          ])
        }),
    ])
  }
}
