// SPDX-License-Identifier: Apache-2.0
import LinuxIO
import Testing
import VFIO

@testable import Helper

@Suite("The address spaces of a helper's devices")
struct AddressSpacesTests {
  /// Files stand for iommufds: nothing is asked of them but whether they are the same.
  private let one: SentFile
  private let spaces = AddressSpaces()

  init() throws { one = SentFile(try Descriptor.inMemory(name: "stands for an iommufd")) }

  private func refusal(_ number: UInt32, in descriptor: consuming Descriptor) -> HelperFailure? {
    do throws(HelperFailure) {
      _ = try spaces.space(number, in: descriptor, device: 2)
      return nil
    } catch {
      return error
    }
  }

  @Test("each device brings a descriptor of the one iommufd, and spaces are known by their numbers")
  func same() throws {
    let first = try spaces.space(1, in: one.descriptor.duplicate(), device: 1)
    let again = try spaces.space(1, in: one.descriptor.duplicate(), device: 2)
    let other = try spaces.space(2, in: one.descriptor.duplicate(), device: 3)
    #expect(first === again && first !== other)
  }

  @Test("another iommufd is refused while one is held, whichever space it is said to be, and taken when none is")
  func another() throws {
    var held: AddressSpace? = try spaces.space(1, in: one.descriptor.duplicate(), device: 1)
    for number: UInt32 in [1, 2] {
      let refusal = try refusal(number, in: Descriptor.inMemory(name: "another"))
      #expect(refusal?.code == .badArgument && refusal?.device == 2)
    }
    #expect(held?.number == 1)
    held = nil
    #expect(try refusal(1, in: Descriptor.inMemory(name: "another")) == nil)
  }
}
