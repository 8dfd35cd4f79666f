// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// What there was before a physical function was prepared: each setting's value is written down before it is changed, and what it
/// is changed to, so that all of it is there after a crash, and what others have changed since is not taken for one's own. It is
/// text, one fact in a line, settings in the order in which they were changed:
///
///     vfio-ferry prepared 1
///     device pci 0000:3b:00.0
///     boot 1c0e4d5a-…                       this run of the machine: the next one begins with nothing prepared
///     was switch-mode legacy now switchdev
///     was autoprobe 1 now 0
///     was functions 0 now 2
///     was address 0 00:00:00:00:00:00 now 02:00:5e:00:00:11      of virtual function 0
///     was driver 0 - now mlx5_vfio_pci                           a dash is an empty value
///     end
struct PreparationRecord: Hashable {
  struct Entry: Hashable {
    var setting: PreparationSetting
    /// What it was.
    var value: String
    /// What it was then set to.
    var changed: String
  }

  var bus: String
  var device: String
  var boot: String
  var entries: [Entry]

  /// More than any record has: eight lines for each of a thousand functions.
  static let maximumSize = 1 << 20

  /// Its name in its folder.
  var name: String { "\(bus)-\(device)" }

  /// What a setting was before it was changed first; nil where it was not.
  func original(_ setting: PreparationSetting) -> String? { entries.first { $0.setting == setting }?.value }

  /// The values that a setting was given or had on the way; one that it has none of is somebody else's.
  func own(_ setting: PreparationSetting) -> Set<String> {
    Set(entries.lazy.filter { $0.setting == setting }.flatMap { [$0.value, $0.changed] })
  }

  /// The record as it is written.
  var text: String {
    func shown(_ value: String) -> String { value.isEmpty ? "-" : value }
    let lines = entries.map { "was \($0.setting.recorded) \(shown($0.value)) now \(shown($0.changed))" }
    return ([Self.heading, "device \(bus) \(device)", "boot \(boot)"] + lines + ["end", ""]).joined(separator: "\n")
  }

  /// Whether it can be read again: a value that a record can't hold, or too many, would be no way back.
  var isReadable: Bool { PreparationRecord(Array(text.utf8)) == self }

  private static let heading = "vfio-ferry prepared 1"

  init(bus: String, device: String, boot: String, entries: [Entry] = []) {
    self.bus = bus
    self.device = device
    self.boot = boot
    self.entries = entries
  }

  /// Reads a record; nil where it is not exactly what ``text`` writes.
  init?(_ bytes: [UInt8]) {
    guard bytes.count <= Self.maximumSize, bytes.allSatisfy({ (0x20...0x7e).contains($0) || $0 == 10 }) else {
      return nil
    }
    let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.count >= 5, lines[0] == Self.heading else { return nil }
    let device = lines[1].split(separator: " ", omittingEmptySubsequences: false)
    let boot = lines[2].split(separator: " ", omittingEmptySubsequences: false)
    guard device.count == 3, device[0] == "device", device[1...].allSatisfy({ ThrottleRecord.isName($0, most: 64) }),
      boot.count == 2, boot[0] == "boot", ThrottleRecord.isName(boot[1], most: 64)
    else { return nil }
    self.init(bus: String(device[1]), device: String(device[2]), boot: String(boot[1]))
    for line in lines.dropFirst(3).dropLast(2) {
      guard let entry = Entry(line.split(separator: " ", omittingEmptySubsequences: false)) else { return nil }
      entries.append(entry)
    }
    guard text.utf8.elementsEqual(bytes) else { return nil }
  }
}

extension PreparationRecord.Entry {
  fileprivate init?(_ fields: [Substring]) {
    let values = fields.suffix(3)
    guard fields.first == "was", values.count == 3, let value = values.first, let changed = values.last,
      values[values.startIndex + 1] == "now", ThrottleRecord.isName(value, most: 64),
      ThrottleRecord.isName(changed, most: 64),
      let setting = PreparationSetting(recorded: fields.dropFirst().dropLast(3))
    else { return nil }
    func plain(_ value: Substring) -> String { value == "-" ? "" : String(value) }
    self.init(setting: setting, value: plain(value), changed: plain(changed))
  }
}

extension PreparationSetting {
  fileprivate var recorded: String {
    switch self {
    case .module(let name): preconditionFailure("\(name) stays loaded, so nothing of it is written down")
    case .switchMode: "switch-mode"
    case .autoprobe: "autoprobe"
    case .functions: "functions"
    case .address(let number): "address \(number)"
    case .migratable(let number): "migratable \(number)"
    case .driverOverride(let number): "driver-override \(number)"
    case .driver(let number): "driver \(number)"
    }
  }

  fileprivate init?(recorded fields: ArraySlice<Substring>) {
    guard let kind = fields.first, let last = fields.last, (1...2).contains(fields.count) else { return nil }
    let number: UInt16? = fields.count == 2 ? ThrottleRecord.number(last) : nil
    switch (kind, fields.count, number.map(Int.init)) {
    case ("switch-mode", 1, _): self = .switchMode
    case ("autoprobe", 1, _): self = .autoprobe
    case ("functions", 1, _): self = .functions
    case ("address", 2, let number?): self = .address(number)
    case ("migratable", 2, let number?): self = .migratable(number)
    case ("driver-override", 2, let number?): self = .driverOverride(number)
    case ("driver", 2, let number?): self = .driver(number)
    default: return nil
    }
  }
}

/// Where the records are, and one of them, held while its device is being changed: two runs never change one device at once.
struct PreparationFolder: Sendable {
  let folder: PrivateFolder
  let proc: String

  /// `/run/vfio-ferry/prepared` on the real system.
  init(root: SystemRoot) {
    folder = PrivateFolder(path: "\(root.prefix)/run/vfio-ferry/prepared")
    proc = root.proc
  }

  /// What became of a look for a record.
  enum Found {
    case none
    case held(HeldText, PreparationRecord)
    case anothers
    /// It can't be believed, or read: why.
    case damaged(String)
  }

  func find(_ name: String, boot: String) -> Found {
    guard folder.exists else { return .none }
    do throws(SystemError) {
      try folder.check()
      // First, as one may be a second name of the record: a lock is the file's, and not the name's.
      removeUnfinished(name)
      guard let held = try folder.claim(name) else { return folder.names.contains(name) ? .anothers : .none }
      guard let record = PreparationRecord(try held.read(maximum: PreparationRecord.maximumSize)), record.name == name
      else {
        return .damaged("\(folder.path)/\(name) is damaged: look what is set, put it back by hand, and remove it")
      }
      guard record.boot == boot else {
        held.remove()
        return .none
      }
      return .held(held, record)
    } catch {
      return .damaged("\(error)")
    }
  }

  /// Writes a record down, in place of the one that is held.
  /// - Returns: the new one, held.
  func write(_ record: PreparationRecord, over held: HeldText?) throws(SystemError) -> HeldText {
    let process = try ProcessIdentity.current(proc: proc)
    let temporary = "\(record.name).\(process.pid)-\(process.startTicks)\(ThrottleFolder.unfinished)"
    if let held { return try folder.replace(held, record.text, temporary: temporary) }
    try folder.make()
    return try folder.add(record.name, record.text, temporary: temporary)
  }

  /// What a run was writing when it was killed. That of one that lives is locked.
  private func removeUnfinished(_ name: String) {
    for other in folder.names where other.hasPrefix("\(name).") && other.hasSuffix(ThrottleFolder.unfinished) {
      (try? folder.claim(other))?.remove()
    }
  }
}
