// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What a VMM says of a device, in a tag's text, because this process can't find it out: `VFIO_FERRY_DEVICE_TAG`.
struct HandedTag {
  private let tag: CompatibilityTag
  private let name: DeviceName
  private let device: UInt32

  /// Reads it. Whatever is in it, this does no harm.
  init(_ text: [UInt8], for name: DeviceName, _ device: UInt32) throws(HelperFailure) {
    do throws(CompatibilityTag.Problem) {
      tag = try CompatibilityTag(decoding: text)
    } catch {
      throw HelperFailure(
        error == .tooLarge ? .limit : .badArgument, device: device, "the tag of \(name) can't be read: \(error)")
    }
    self.name = name
    self.device = device
  }

  /// What was found out here, and beside that what this one says.
  /// - Parameter own: what was found out: a tag's text, or nothing.
  func completing(_ own: [UInt8]) throws(HelperFailure) -> [UInt8] {
    let found: CompatibilityTag
    do throws(CompatibilityTag.Problem) {
      found = own.isEmpty ? CompatibilityTag() : try CompatibilityTag(decoding: own)
    } catch {
      throw HelperFailure(.refused, device: device, "what was found out of \(name) can't be read: \(error)")
    }
    do throws(TagContradiction) {
      return try found.completed(by: tag).encoded
    } catch .tooLarge {
      throw HelperFailure(.limit, device: device, "the tag of \(name) is not taken: \(TagContradiction.tooLarge)")
    } catch {
      throw HelperFailure(.refused, device: device, "the tag is not one of \(name) as it is now: \(error)")
    }
  }
}
