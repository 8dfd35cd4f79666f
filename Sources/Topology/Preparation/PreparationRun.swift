// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration

/// Carries steps out, one after the other, and takes back what it has done where one fails.
///
/// Before a setting is changed its value is in the record. So the record tells the way back also of a run that was killed:
/// a setting that already is what it was needs nothing, and the order is the reverse.
struct PreparationRun {
  let device: PhysicalFunction
  let host: any PreparationHost
  let folder: PreparationFolder
  /// Told of each write before it is done.
  let announce: (PreparationWrite) -> Void

  /// - Parameters:
  ///   - record: what an earlier run has written down, held; what is changed now is added to it.
  ///   - isWritten: whether it is to be there afterwards. Where nothing is to come back it is not written either: after a kill
  ///     the way is forward.
  func carryOut(
    _ steps: [PreparationStep], _ held: HeldText, _ record: PreparationRecord, isWritten: Bool
  ) throws(PreparationError) {
    var held = held
    let earlier = record
    var record = record
    var hasChanged = false
    for step in steps {
      do throws(PreparationError) {
        guard let now = try host.value(of: step.setting) else {
          if step.isOptional { continue }
          throw error(.differs(step.setting, wanted: step.value, found: nil))
        }
        if now == step.value { continue }
        if case .module = step.setting {
          // It stays: others may use it by the time of the way back, and removing it would unbind their devices.
          try set(step.setting, step.value)
          continue
        }
        var next = record
        next.entries.append(PreparationRecord.Entry(setting: step.setting, value: now, changed: step.value))
        if isWritten { held = try write(next, over: held) }
        record = next
        try set(step.setting, step.value)
        hasChanged = true
      } catch {
        var failure = error
        if case .module = step.setting { failure.hasChanged = false }
        if record != earlier { failure.wayBack = takeBack(record, to: earlier, held) }
        failure.hasChanged = failure.hasChanged || hasChanged || !failure.wayBack.isEmpty
        throw failure
      }
    }
    if !isWritten || record.entries.isEmpty { held.remove() }
  }

  /// Gives back what a record tells.
  func undo(_ held: HeldText, _ record: PreparationRecord) throws(PreparationError) {
    let nothing = PreparationRecord(bus: record.bus, device: record.device, boot: record.boot)
    let failures = takeBack(record, to: nothing, held)
    if !failures.isEmpty {
      throw error(.record("not undone: \(failures.joined(separator: "; ")); the record is kept, so try again"))
    }
  }

  /// Gives settings what they were, the last one first.
  /// - Parameter earlier: what stays, which the record begins with.
  /// - Returns: what could not be undone; the record tells of it then, so that it can be tried again.
  private func takeBack(_ record: PreparationRecord, to earlier: PreparationRecord, _ held: HeldText) -> [String] {
    var failures: [String] = []
    for entry in record.entries.dropFirst(earlier.entries.count).reversed() {
      do throws(PreparationError) {
        // A function that is gone has taken its settings with it.
        guard let now = try host.value(of: entry.setting), now != entry.value else { continue }
        try set(entry.setting, entry.value)
      } catch {
        failures.append(error.undoing)
      }
    }
    guard failures.isEmpty else { return failures }
    do throws(PreparationError) {
      if earlier.entries.isEmpty { held.remove() } else { _ = try write(earlier, over: held) }
    } catch {
      failures.append(error.undoing)
    }
    return failures
  }

  /// Changes a setting, and looks whether it has changed. An error says whether anything may have.
  private func set(_ setting: PreparationSetting, _ value: String) throws(PreparationError) {
    // Again: somebody may have come since all of it was looked at, and unbinding what is held waits until it is not.
    let users = host.users(hitBy: setting, value)
    guard users.isEmpty else { throw error(.refused("in use: \(users.joined(separator: "; "))")) }
    do throws(PreparationError) {
      for write in host.writes(setting, value, mode: nil) {
        announce(write)
        try host.perform(write)
      }
      let found = try host.value(of: setting)
      guard found == value else { throw self.error(.differs(setting, wanted: value, found: found)) }
    } catch {
      var failure = error
      failure.hasChanged = true
      throw failure
    }
  }

  /// - Parameter held: the record as it was; nil for a new one, which keeps others away.
  func write(_ record: PreparationRecord, over held: HeldText?) throws(PreparationError) -> HeldText {
    guard record.isReadable else {
      let last = record.entries.last.map { "\($0.setting), which is \"\(Attribute.harmless($0.value))\"," } ?? "it"
      throw error(.record("a record has no room for what was there before: \(last) can't be written down"))
    }
    do throws(SystemError) {
      return try folder.write(record, over: held)
    } catch {
      if held == nil, error.errno == ErrorNumber.exists.rawValue {
        throw self.error(.refused("another process is preparing it"))
      }
      throw self.error(.record("what was there before could not be written down: \(error)"))
    }
  }

  private func error(_ cause: PreparationError.Cause) -> PreparationError {
    PreparationError(device: "\(device)", cause: cause)
  }
}

extension PreparationError {
  /// As a failure of a way back, in which the device has been named before.
  fileprivate var undoing: String {
    var plain = self
    plain.hasChanged = false
    let text = "\(plain)"
    return text.hasPrefix("\(device): ") ? String(text.dropFirst(device.utf8.count + 2)) : text
  }
}
