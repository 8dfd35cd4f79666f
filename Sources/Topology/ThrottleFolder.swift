// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// Where limiters keep their records, and where the next start finds those of processes that are gone.
public struct ThrottleFolder: Sendable {
  /// Where the folder is.
  public var path: String { folder.path }

  let folder: PrivateFolder
  /// procfs, which says which run of the machine and which network namespace this is.
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
  /// - Returns: the record's text, to be held for as long as what it tells stands: whoever finds it held leaves it alone.
  /// - Throws: EEXIST where another process holds the same (see ``ThrottleRecord/name``).
  func add(_ record: ThrottleRecord) throws(SystemError) -> HeldText {
    try folder.make()
    return try folder.add(record.name, record.text, temporary: Self.temporary(record))
  }

  /// Writes down what a record has become.
  /// - Returns: its new text, to be held in place of the old.
  func replace(_ held: HeldText, with record: ThrottleRecord) throws(SystemError) -> HeldText {
    try folder.replace(held, record.text, temporary: Self.temporary(record))
  }

  private static func temporary(_ record: ThrottleRecord) -> String {
    "\(record.name).\(record.process.pid)-\(record.process.startTicks)\(unfinished)"
  }

  /// Whether a record, besides one, tells that an interface's qdisc was made for it.
  func tellsOfHooks(on interface: Int32, besides own: String? = nil) -> Bool {
    // In another namespace the number is another interface's.
    let namespace = ProcessIdentity.namespace("net", proc: proc)
    return folder.names.prefix(Self.maximumRecords).contains { name in
      guard name != own, let bytes = try? folder.read(name, maximum: ThrottleRecord.maximumSize),
        let record = ThrottleRecord(bytes), record.networkNamespace == namespace,
        case .police(_, let places) = record.change
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
  /// A process that has set something holds its record's lock, which the kernel lets go with the process. So a record whose
  /// lock can be had is nobody's, and whoever has it is the only one that puts back what it tells.
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
    let held: HeldText
    let bytes: [UInt8]
    do throws(SystemError) {
      // Its process is alive, or another one is putting it back, or has done so.
      guard let claimed = try folder.claim(name) else { return nil }
      held = claimed
      // What one was writing when it ended was not done yet.
      if name.hasSuffix(Self.unfinished) {
        held.remove()
        return nil
      }
      bytes = try held.read(maximum: ThrottleRecord.maximumSize)
    } catch {
      return "\(file) is no record of a throttled device and is left alone: \(error)"
    }
    guard let record = ThrottleRecord(bytes), record.name == name else {
      return "\(file) is no record of a throttled device, or a damaged one, and is left alone; look what is throttled "
        + "(tc filter show, devlink port function rate show) and remove it"
    }
    let who = "\(record.device) was throttled (\(record.kind.rawValue)) by process \(record.process.pid)"
    if let boot = ProcessIdentity.boot(proc: proc), boot != record.process.boot {
      held.remove()
      return "\(who) before the machine was started again: nothing is left to put back"
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
    held.remove()
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
