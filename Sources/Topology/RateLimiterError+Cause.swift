// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

extension RateLimiterError {
  /// What the kernel refused over netlink; where a person can do something about it, what.
  init(device: String, kind: RateLimiterKind, operation: String, subject: String, _ error: NetlinkError) {
    let cause: Cause =
      switch error.errno {
      case .noLibrary: .refused("\(error)")
      case .notPermitted where error.words.isEmpty: .kernel(error.errno, words: "this needs root (CAP_NET_ADMIN)")
      default: .kernel(error.errno, words: error.words)
      }
    self.init(device: device, kind: kind, operation: operation, subject: subject, cause: cause)
  }

  /// A record that could not be written.
  init(device: String, kind: RateLimiterKind, _ error: SystemError) {
    self.init(
      device: device, kind: kind, operation: "\(error.operation), to keep a record of what is set",
      subject: error.subject, cause: .kernel(ErrorNumber(rawValue: error.errno), words: ""))
  }
}

extension ThrottleRecord {
  /// A record of this process's.
  static func new(
    _ change: Change, of device: String, _ folder: ThrottleFolder
  ) throws(RateLimiterError) -> ThrottleRecord {
    var record = ThrottleRecord(
      device: device, process: ProcessIdentity(pid: 0, startTicks: 0, pidNamespace: 0, boot: ""),
      networkNamespace: 0, change: change)
    do throws(SystemError) {
      record.process = try ProcessIdentity.current(proc: folder.proc)
    } catch {
      throw RateLimiterError(device: device, kind: record.kind, error)
    }
    guard let namespace = ProcessIdentity.namespace("net", proc: folder.proc) else {
      throw RateLimiterError(
        device: device, kind: record.kind, operation: "reading", subject: "\(folder.proc)/self/ns/net",
        cause: .refused("the kernel does not name the network namespace"))
    }
    record.networkNamespace = namespace
    // What can't be read again is not written: a name with a space in it would be no record after a crash.
    guard ThrottleRecord(Array(record.text.utf8)) == record else {
      throw RateLimiterError(
        device: device, kind: record.kind, operation: "writing a record", subject: record.name,
        cause: .refused("one of its names can't be written down"))
    }
    return record
  }
}
