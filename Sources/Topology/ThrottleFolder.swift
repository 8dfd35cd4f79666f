// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// Where limiters keep their records, and where the next start finds those of processes that are gone.
public struct ThrottleFolder: Sendable {
  /// Where the folder is.
  public var path: String { folder.path }

  let folder: PrivateFolder
  /// procfs, by which a process is known to be alive.
  let proc: String

  /// The folder of a system: `/run/vfio-ferry/throttles` on the real one. It is made (0700) when a limit is set.
  public init(root: SystemRoot = SystemRoot()) {
    self.init(path: "\(root.prefix)/run/vfio-ferry/throttles", proc: root.proc)
  }

  /// A folder elsewhere; it and the one above it are made where they are missing.
  /// - Parameter proc: where procfs is.
  public init(path: String, proc: String = "/proc") {
    folder = PrivateFolder(path: path)
    self.proc = proc
  }

  /// Writes a record down for the first time.
  /// - Throws: EEXIST where another process holds the same (see ``ThrottleRecord/name``).
  func add(_ record: ThrottleRecord) throws(SystemError) {
    try folder.make()
    try folder.add(record.name, record.text)
  }

  /// Writes down what a record has become.
  func replace(_ record: ThrottleRecord) throws(SystemError) {
    let process = record.process
    try folder.replace(
      record.name, record.text, temporary: "\(record.name).\(process.pid)-\(process.startTicks)\(Self.unfinished)")
  }

  func remove(_ record: ThrottleRecord) { folder.remove(record.name) }

  /// Whether a record tells that an interface's qdisc was made for it.
  func tellsOfHooks(on interface: Int32) -> Bool {
    folder.names.prefix(Self.maximumRecords).contains { name in
      guard let bytes = try? folder.read(name, maximum: ThrottleRecord.maximumSize),
        let record = ThrottleRecord(bytes), case .police(_, let places) = record.change
      else { return false }
      return places.contains { $0.interface.index == interface && $0.madeHooks }
    }
  }

  /// The end of a name under which a record is being written.
  static let unfinished = ".new"
  /// More records than a host has devices to throttle.
  static let maximumRecords = 4096
}

extension ThrottleFolder {
  /// Puts back what processes have set that are gone, and removes their records. Where the folder is absent or empty this
  /// costs one look at it.
  ///
  /// A record is believed only if nobody but this user can have written it and it is exactly as it was written; by what it
  /// says, only filters that carry its cookie are removed, and a rate is put back only while it is what the record says
  /// was set.
  /// - Returns: a line for each record that was found and is not a live process's: what was put back, or why it was not.
  public func putBackLeftovers() -> [String] { putBackLeftovers(KernelNetwork()) }

  func putBackLeftovers(_ network: any NetworkControl) -> [String] {
    let names = folder.names
    guard !names.isEmpty else { return [] }
    do throws(SystemError) {
      try folder.check()
    } catch {
      return ["what was throttled is not put back: \(path) can be changed by others: \(error)"]
    }
    var lines = names.prefix(Self.maximumRecords).compactMap { putBack($0, network) }
    if names.count > Self.maximumRecords {
      lines.append("\(names.count - Self.maximumRecords) more files in \(path) were not looked at")
    }
    return lines
  }

  private func putBack(_ name: String, _ network: any NetworkControl) -> String? {
    let file = "\(path)/\(Attribute.harmless(name))"
    let bytes: [UInt8]
    do throws(SystemError) {
      bytes = try folder.read(name, maximum: ThrottleRecord.maximumSize)
    } catch {
      // Its process has put it back just now.
      if error.errno == ErrorNumber.noEntry.rawValue { return nil }
      return "\(file) is no record of a throttled device and is left alone: \(error)"
    }
    if name.hasSuffix(Self.unfinished) { return dropUnfinished(name) }
    guard let record = ThrottleRecord(bytes), record.name == name else {
      return "\(file) is no record of a throttled device, or a damaged one, and is left alone; look what is throttled "
        + "(tc filter show, devlink port function rate show) and remove it"
    }
    let who = "\(record.device) was throttled (\(record.kind.rawValue)) by process \(record.process.pid)"
    switch record.process.fate(proc: proc) {
    case .alive: return nil
    case .unknown:
      return "\(who), which can't be told to be alive or gone from here (another PID namespace); \(file) is left alone"
    case .beforeThisBoot:
      folder.remove(name)
      return "\(who) before the machine was started again: nothing is left to put back"
    case .gone: break
    }
    guard ProcessIdentity.namespace("net", proc: proc) == record.networkNamespace else {
      return
        "\(who), which is gone, in another network namespace: run vfio-ferry there, or, if that is gone too, remove "
        + file
    }
    let done: String
    do throws(Trouble) {
      done = try putBack(record.change, network)
    } catch {
      return "\(who), which is gone, and that could not be put back: \(error.text); \(file) is kept"
    }
    folder.remove(name)
    return "\(who), which is gone: \(done)"
  }

  private struct Trouble: Error { let text: String }

  private func putBack(_ change: ThrottleRecord.Change, _ network: any NetworkControl) throws(Trouble) -> String {
    switch change {
    case .police(let cookie, let places):
      let failures = ThrottleTakedown(network: network).remove(places, cookie)
      if !failures.isEmpty {
        throw Trouble(text: failures.map(\.description).joined(separator: "; "))
      }
      return "the limit is taken away (\(places.map(\.description).joined(separator: ", ")))"
    case .devlinkRate(let port, let before, let set):
      do throws(NetlinkError) {
        return try DevlinkRate.putBack(port, before: before, set: set, network).words
      } catch {
        throw Trouble(text: "\(port): \(error)")
      }
    }
  }

  /// A record that was being written is of no use: what it says was not done yet. It is only removed when nobody writes it
  /// any more; the end of its name says who did, as in `….4711-1234567.new`.
  private func dropUnfinished(_ name: String) -> String? {
    let writer = name.dropLast(Self.unfinished.count).split(separator: ".").last?.split(separator: "-") ?? []
    if writer.count == 2, let pid = Int32(writer[0]), let start = UInt64(writer[1]),
      let here = try? ProcessIdentity.current(proc: proc)
    {
      var identity = here
      identity.pid = pid
      identity.startTicks = start
      if identity.fate(proc: proc) == .alive { return nil }
    }
    folder.remove(name)
    return nil
  }
}

extension NetlinkError: CustomStringConvertible {
  var description: String {
    switch errno {
    case .noLibrary: "libnl is not installed: install libnl-genl-3-200"
    case .notPermitted: "\(errno): this needs root (CAP_NET_ADMIN)"
    default: words.isEmpty ? "\(errno)" : "\(errno), \"\(words)\""
    }
  }
}
