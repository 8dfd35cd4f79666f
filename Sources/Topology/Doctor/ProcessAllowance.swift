// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO

/// What a process may open, lock and use, as procfs and its control groups say.
public struct ProcessAllowance: Hashable, Sendable {
  /// A limit.
  public enum Limit: Hashable, Sendable {
    case none
    case bytes(UInt64)
    /// Nobody says.
    case unknown
  }

  /// What messages call it: "this process", "process 12".
  public let name: String
  /// The user as whom it opens files; nil where procfs does not say.
  public let user: UInt32?
  /// Its group, and the others that it is in.
  public let groups: [UInt32]
  /// A bit for each capability in force.
  public let capabilities: UInt64
  /// How much memory it may lock (`RLIMIT_MEMLOCK`).
  public let lockedMemory: Limit
  /// Whether it has memory in reserved huge pages; nil where no process was named that has a guest (a helper of vfio-ferry's
  /// need not have it mapped), or procfs does not say.
  public let hasHugePages: Bool?
  /// The lowest limit of its control group and those above (`memory.max`).
  public let memory: Limit
  /// The file that has it, or that would.
  public let memoryPath: String

  /// A capability by its number, as in `linux/capability.h`.
  enum Capability: UInt64 {
    /// Reading and writing what belongs to others. The corresponding C constant is `CAP_DAC_OVERRIDE`.
    case overrideAccess = 1
    /// Locking memory beyond the limit. The corresponding C constant is `CAP_IPC_LOCK`.
    case lockMemory = 14
  }

  func has(_ capability: Capability) -> Bool { capabilities >> capability.rawValue & 1 == 1 }

  /// - Parameter pid: which process; nil for this one.
  init(root: SystemRoot, pid: Int32?) {
    name = pid.map { "process \($0)" } ?? "this process"
    let folder = "\(root.proc)/\(pid.map(String.init) ?? "self")"
    let status = Self.fields("\(folder)/status")
    func numbers(_ key: String) -> [UInt32] { (status[key] ?? []).compactMap { UInt32($0) } }
    // Real, effective, saved, and that for files.
    user = numbers("Uid").last
    groups = (numbers("Gid").last.map { [$0] } ?? []) + numbers("Groups")
    capabilities = status["CapEff"]?.first.flatMap { UInt64($0, radix: 16) } ?? 0
    let hasGuest = pid != nil && status["Name"]?.first != "vfio-ferry"
    hasHugePages = hasGuest ? status["HugetlbPages"]?.first.map { $0 != "0" } : nil
    lockedMemory = Self.lockedMemory("\(folder)/limits")
    (memory, memoryPath) = Self.memory(root: root, groups: Files.text("\(folder)/cgroup") ?? "")
  }

  private static func fields(_ path: String) -> [String: [Substring]] {
    var fields: [String: [Substring]] = [:]
    for line in (Files.text(path) ?? "").split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1)
      if parts.count == 2 { fields[String(parts[0])] = parts[1].split { $0 == " " || $0 == "\t" } }
    }
    return fields
  }

  /// "Max locked memory         8388608              8388608              bytes"
  private static func lockedMemory(_ path: String) -> Limit {
    let line = (Files.text(path) ?? "").split(separator: "\n").first { $0.hasPrefix("Max locked memory") }
    guard let soft = line?.dropFirst("Max locked memory".count).split(separator: " ").first else { return .unknown }
    return soft == "unlimited" ? .none : UInt64(soft).map { .bytes($0) } ?? .unknown
  }

  /// Goes from the group up to the root of its hierarchy; both versions of control groups are known, each in the place where
  /// systemd mounts it.
  private static func memory(root: SystemRoot, groups text: String) -> (Limit, String) {
    var (second, first): (Substring?, Substring?)
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { continue }
      if parts[0] == "0", parts[1].isEmpty { second = parts[2] }
      if parts[1].split(separator: ",").contains("memory") { first = parts[2] }
    }
    let mounted = "\(root.sys)/fs/cgroup"
    let (top, group, file) =
      first.map { ("\(mounted)/memory", $0, "memory.limit_in_bytes") } ?? (mounted, second ?? "", "memory.max")
    var names = group.split(separator: "/").map(String.init)
    /// Names come from procfs: what is shown of them is made harmless.
    func shown() -> String { ([top] + names.map(Attribute.harmless) + [file]).joined(separator: "/") }
    let own = shown()
    // Seen from another namespace, a path may lead out of what is mounted, or nowhere.
    guard first != nil || second != nil, !names.contains(".."), Files.exists(([top] + names).joined(separator: "/"))
    else {
      return (.unknown, own)
    }
    var lowest: (bytes: UInt64, path: String)?
    while true {
      let text = Attribute.text(([top] + names + [file]).joined(separator: "/"))
      // The first version has the largest number of whole pages for no limit.
      if let bytes = text.flatMap({ UInt64($0) }), bytes < 1 << 62, bytes < lowest?.bytes ?? .max {
        lowest = (bytes, shown())
      }
      if names.popLast() == nil { break }
    }
    return lowest.map { (.bytes($0.bytes), $0.path) } ?? (.none, own)
  }
}

/// A device node, and who may open it.
public struct NodeFacts: Hashable, Sendable {
  /// Where it is.
  public let path: String
  /// Whose it is.
  let ownership: Files.Ownership

  /// nil where there is none.
  init?(_ path: String) {
    guard let ownership = Files.ownership(path) else { return nil }
    self.path = path
    self.ownership = ownership
  }

  /// Whether a process may read and write it, by owner, group and mode; access control lists are not looked at. nil where
  /// nobody says whose the process is.
  func isOpen(to process: ProcessAllowance) -> Bool? {
    guard let user = process.user else { return nil }
    if process.has(.overrideAccess) { return true }
    let bits =
      user == ownership.owner
      ? ownership.mode >> 6 : process.groups.contains(ownership.group) ? ownership.mode >> 3 : ownership.mode
    return bits & 0o6 == 0o6
  }

  /// Its owner, group and mode, as `ls -n` would have them.
  var description: String {
    let mode = String(ownership.mode, radix: 8)
    return "\(path) belongs to \(ownership.owner):\(ownership.group), mode "
      + String(repeating: "0", count: max(0, 4 - mode.count)) + mode
  }
}
